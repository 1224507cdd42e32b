//! A handler without state gives way to one that has some, and back, while messages come.

use super::kept;
use crate::play::Play;
use crate::run::{beside, by_key, guests, written};
use crate::support::Folder;
use keyrail::broker::client::Client;
use std::fs;
use std::time::{Duration, Instant};

const KEYS: usize = 30;
const LIMIT: Duration = Duration::from_secs(30);

/// Puts another handler in the place of the pipeline's.
fn swap(folder: &Folder, guest: &[u8]) {
    let path = folder.path().join("plugins/p.wasm");
    fs::write(path.with_extension("part"), guest).unwrap();
    fs::rename(path.with_extension("part"), path).unwrap();
}

/// Sends until what comes out shows that the handler is another one.
fn send_until(play: &mut Play, client: &mut dyn Client, next: &mut usize, done: impl Fn(&[String]) -> bool) {
    let until = Instant::now() + LIMIT;
    loop {
        let messages: Vec<_> = (*next..*next + 100).map(|n| (format!("k{}", n % KEYS), format!("m{n:0>6}"))).collect();
        *next += messages.len();
        play.send_plain(client, &messages);
        std::thread::sleep(Duration::from_millis(30));
        if by_key(client, "out").values().all(|values| done(values)) && written(client, "out") > 0 {
            return;
        }
        assert!(Instant::now() < until, "the handler was not swapped");
    }
}

fn is_counted(value: &str) -> bool {
    value.contains(' ')
}

#[test]
fn a_handler_with_state_takes_over_from_one_without_and_back_and_nothing_is_lost() {
    let test = "a_handler_with_state_takes_over_from_one_without_and_back_and_nothing_is_lost";
    let Some(mut play) = Play::of(test, "identity", "") else { return };
    let Some(guests) = guests(test) else { return };
    let read = |name: &str| fs::read(guests.join(name)).unwrap();
    let (plain, counting) = (read("identity.wasm"), read("tally.wasm"));
    let host = play.folder.path().join("keyrail.toml");
    fs::write(&host, format!("{}plugins.poll = \"1s\"\n", fs::read_to_string(&host).unwrap())).unwrap();
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    let mut next = 0;
    let last = |counted: bool| move |values: &[String]| values.last().is_some_and(|last| is_counted(last) == counted);
    send_until(&mut play, client.as_mut(), &mut next, last(false));
    for (guest, counted) in [(&counting, true), (&plain, false), (&counting, true)] {
        swap(&play.folder, guest);
        send_until(&mut play, client.as_mut(), &mut next, last(counted));
    }
    drop(client);
    play.settle(child);
    let mut client = play.client();
    let kept = kept(client.as_mut());
    for (key, values) in by_key(client.as_mut(), "out") {
        let (mut count, mut turns) = (0, 0);
        let sent: Vec<_> = (0..next).filter(|n| format!("k{}", n % KEYS) == key).map(|n| format!("m{n:0>6}")).collect();
        assert_eq!(values.len(), sent.len(), "{key}: lost, or twice");
        for (n, (value, sent)) in values.iter().zip(&sent).enumerate() {
            turns += usize::from(n > 0 && is_counted(value) != is_counted(&values[n - 1]));
            if is_counted(value) {
                // What was counted before the handler without state served is still there after it.
                count += 1;
                assert_eq!(*value, format!("{count} {sent}"), "{key}");
            } else {
                assert_eq!(value, sent, "{key}");
            }
        }
        assert_eq!(turns, 3, "{key}: {values:?}");
        assert_eq!(kept.get(&key), Some(&Some(count.to_string())), "{key}");
    }
}
