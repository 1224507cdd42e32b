//! WASI preview 1, with a guest written by hand.

use super::imports::{ask, asked, logged};
use super::*;
use tracing::Level;

/// Opens the guest of preview 1, and forgets what it logs at that.
fn preview1() -> Instance {
    open("preview1")
}

pub(super) fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect()
}

pub(super) const NOW_NS: u64 = NOW_MS as u64 * 1_000_000;

#[test]
fn the_adapter_is_what_its_text_says() {
    let folder = format!("{}/src/wasm/wasi", env!("CARGO_MANIFEST_DIR"));
    let assembled = wat::parse_file(format!("{folder}/preview1.wat")).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(format!("{folder}/preview1.wasm"), &assembled).unwrap();
        return assert!(assembled.len() < 8192, "{} bytes", assembled.len());
    }
    let same = assembled == wasi::preview1::CODE;
    assert!(same, "run UPDATE=1 cargo test -p keyrail --lib wasm:: and commit preview1.wasm");
}

#[test]
fn the_adapter_has_all_of_preview_1() {
    let mut exported = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasi::preview1::CODE) {
        if let wasmparser::Payload::ExportSection(exports) = payload.unwrap() {
            exported.extend(exports.into_iter().map(|export| export.unwrap().name.to_owned()));
        }
    }
    let all = "args_get args_sizes_get environ_get environ_sizes_get clock_res_get clock_time_get fd_advise fd_allocate \
               fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get \
               fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_get fd_prestat_dir_name fd_pwrite fd_read \
               fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write path_create_directory path_filestat_get \
               path_filestat_set_times path_link path_open path_readlink path_remove_directory path_rename path_symlink \
               path_unlink_file poll_oneoff proc_exit proc_raise sched_yield random_get sock_accept sock_recv sock_send \
               sock_shutdown";
    for name in all.split_whitespace() {
        assert!(exported.iter().any(|there| there == name), "{name}");
    }
}

#[test]
fn what_a_module_prints_becomes_lines_of_the_log() {
    let lines = logged(Level::INFO, || {
        let mut guest = preview1();
        guest.results(&mut batch(&["oone ", "otwo\nthr", "o\n\nee", "e\u{1b}[31mred\n", "oend"])).unwrap();
    });
    let line = |level: &str, words: &str| format!("{level} keyrail::handler: {words} pipeline=\"preview1\"");
    let expected =
        [(" INFO", "it starts"), (" INFO", "it opens, "), (" INFO", "one two"), (" INFO", "thr"), (" WARN", "red")];
    let expected: Vec<_> = expected.into_iter().chain([(" INFO", "eeend")]).map(|(l, w)| line(l, w)).collect();
    assert_eq!(lines, expected);
    let lines = logged(Level::WARN, || drop(preview1().results(&mut batch(&["oquiet\n", "e\u{e4}\n"])).unwrap()));
    assert_eq!(lines, [line(" WARN", "\u{e4}")]);
}

#[test]
fn a_line_without_end_is_cut_and_a_flood_of_them_counted() {
    let long = format!("o{}", "x".repeat(100_000));
    let many = format!("o{}", "x\n".repeat(5000));
    let lines = logged(Level::INFO, || {
        preview1().results(&mut batch(&[&long])).unwrap();
        preview1().results(&mut batch(&[&many])).unwrap();
    });
    assert_eq!(lines[2].matches('x').count(), 8192);
    assert_eq!(lines.len(), 3 + 2 + 1000 + 1);
    assert!(lines[1005].contains("4000 more lines of the handler's log were dropped"), "{}", lines[1005]);
}

#[test]
fn what_a_call_writes_to_its_standard_error_before_it_traps_is_the_failure_s_detail() {
    let fails = |values: &[&str]| {
        let mut all = Vec::new();
        let lines = logged(Level::ERROR, || {
            let mut guest = preview1();
            drop(guest.results(&mut batch(&["eearlier\n"])).unwrap());
            all.push(guest.process(&mut batch(values), NOW_MS, DEADLINE).unwrap_err());
        });
        assert_eq!(lines, Vec::<String>::new());
        all.remove(0)
    };
    let trap = |detail: &str| CallFailure::Trap { detail: detail.to_owned() };
    let traceback = "uTraceback (most recent call last):\n  File \"app.py\", line 3\nKeyError: 'total'\n";
    let expected =
        "Traceback (most recent call last):   File \"app.py\", line 3 KeyError: 'total', in crash < one < process";
    assert_eq!(fails(&[traceback]), trap(expected));
    assert_eq!(fails(&["u"]), trap("wasm `unreachable` instruction executed, in crash < one < process"));
    let exit = fails(&["ebye\n", "x"]);
    let CallFailure::Trap { detail } = &exit else { panic!("{exit:?}") };
    assert!(detail.starts_with("bye; the handler ended itself with exit code 7, in "), "{detail}");
    let CallFailure::Trap { detail } = fails(&[&format!("u{}last", "\u{e4}".repeat(60_000))]) else {
        panic!("no trap")
    };
    assert!(detail.contains(" ... ") && detail.contains("\u{e4}last, in crash") && detail.len() < 4096, "{detail}");
}

#[test]
fn a_failure_of_open_has_what_was_written_before_it() {
    let refused = load("preview1").open(&setup("ab"), &Limits::default()).unwrap_err();
    assert_eq!(refused.to_string(), "ab: the handler failed while opening: trap: it opens, in open");
}

#[test]
fn the_clock_of_a_module_is_the_call_s_and_a_sleep_moves_it_on() {
    let mut guest = preview1();
    let before = numbers(&ask(&mut guest, asked("t"))[0]);
    assert_eq!(before[0], NOW_NS);
    assert!(before[1] > NOW_NS, "that of `open`, which was later: it never goes back");
    let slept = ask(&mut guest, asked("s"));
    // One event, number 42, of a clock, without an error.
    assert_eq!((slept[0][0], slept[0][4], &slept[0][12..16]), (1, 42, &[0; 4][..]));
    assert_eq!(numbers(&slept[1]), [NOW_NS + 1_000_000_000, before[1] + 1_000_000_000]);
    assert_eq!(numbers(&ask(&mut guest, asked("t"))[0]), [NOW_NS, before[1] + 1_000_000_000]);
    let waited = ask(&mut guest, asked("w"));
    // Number 43, which writes and takes 65,536 bytes; the sleep is not over.
    assert_eq!((waited[0][0], waited[0][4], waited[0][14], &waited[0][20..24]), (1, 43, 2, &[0, 0, 1, 0][..]));
    assert_eq!(numbers(&waited[1])[0], NOW_NS);
}

#[test]
fn chance_of_a_module_follows_from_the_call_s_first_message() {
    let mut guest = preview1();
    let first = ask(&mut guest, asked("r"));
    assert_eq!(ask(&mut preview1(), asked("r")), first, "another instance");
    assert_eq!(ask(&mut guest, asked("r")), first, "run again");
    assert_ne!(ask(&mut guest, Delivery { attempt: 2, ..asked("r") }), first);
    assert_ne!(ask(&mut guest, delivery(8, None, Some(b"r"))), first);
    let started = numbers(&ask(&mut guest, asked("i"))[0]);
    assert!(started[0] > NOW_NS && started[1] != 0, "{started:?}");
    assert_eq!(numbers(&ask(&mut preview1(), asked("i"))[0])[1], started[1], "before the first message it is the same");
}

#[test]
fn a_module_has_no_files_and_no_environment() {
    // Three times badf; the standard input is at its end; no variable.
    assert_eq!(ask(&mut preview1(), asked("f/etc/passwd")), [[8, 8, 8, 0, 0, 0]]);
}

#[test]
fn a_function_that_preview_1_does_not_have_is_named() {
    let wat = text("preview1").replace("\"fd_prestat_get\"", "\"fd_teleport\"");
    let refusal = host().load("h.wasm", &wat::parse_str(wat).unwrap()).unwrap_err().to_string();
    assert!(refusal.contains("fd_teleport"), "{refusal}");
}
