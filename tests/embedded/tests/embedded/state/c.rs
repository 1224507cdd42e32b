//! The same by a handler in C (`tests/guests/tally-c`), which is a module of WASI preview 1.

use super::{Counting, RETRY, go_on};
use crate::run::guests;
use crate::support::{skip, text};

/// `None`, noted: the handler is not built.
fn in_c(test: &str) -> Option<Counting> {
    let folder = guests(test)?;
    if folder.join("tally-c.wasm").is_file() {
        return Counting::of(test, "tally-c", RETRY);
    }
    skip(test, "no clang builds WebAssembly here, says cargo xtask setup");
    None
}

#[test]
fn a_handler_in_c_counts_as_well() {
    go_on(in_c("a_handler_in_c_counts_as_well"));
}

#[test]
fn what_a_handler_in_c_writes_before_it_traps_stands_in_the_dead_letter() {
    let test = "what_a_handler_in_c_writes_before_it_traps_stands_in_the_dead_letter";
    let Some(mut counting) = in_c(test) else { return };
    let messages = ["a", "print", "crash: no cup", "b"].map(|value| ("k".to_owned(), value.to_owned()));
    for (count, value) in ["1 a", "2 print", "", "3 b"].iter().zip(&messages) {
        match count.is_empty() {
            true => counting.play.expect_letter("k", &value.1),
            false => counting.play.expect_output("k", count),
        }
    }
    counting.counts.insert("k".to_owned(), 3);
    counting.play.send_plain(counting.play.client().as_mut(), &messages);
    let child = counting.play.start();
    counting.play.settle(child);
    counting.judge();
    let letters = counting.play.letters(counting.play.client().as_mut());
    let header = |name: &[u8]| text(letters[0].header(name).flatten()).to_owned();
    assert_eq!(header(b"keyrail-code"), "trap");
    let detail = header(b"keyrail-detail");
    assert!(detail.starts_with("tally.c: crash: no cup, in "), "{detail}");
    assert!(detail.contains("keyrail_handle"), "{detail}");
}
