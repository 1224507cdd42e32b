//! A service that is down for a while: nothing of it is held against the messages.

use crate::commands::run;
use crate::play::Play;
use crate::run::beside;
use crate::support::{all, text};
use keyrail::broker::client::Client;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KEYS: usize = 1_200;
/// Without a breaker a message is given up after 1.5 s.
const RETRY: &str =
    "[retry]\nattempts = 4\nin-place = \"400ms\"\nbackoff = { first = \"300ms\", factor = 1.5, jitter = 0.0 }\n";

fn in_ms(ms: u64) -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + u128::from(ms)
}

/// Two messages of each key, which fail until so many milliseconds from now.
fn outage(play: &mut Play, lasts_ms: u64) {
    let command = format!("retry-until:{}", in_ms(lasts_ms));
    let messages: Vec<_> =
        (0..2 * KEYS).map(|n| (format!("k{}", n % KEYS), command.as_str(), format!("k{}-{n}", n % KEYS))).collect();
    play.send(play.client().as_mut(), &messages);
}

fn wait_for_letters(play: &Play, client: &mut dyn Client, count: usize) {
    let until = Instant::now() + Duration::from_secs(40);
    while play.letters(client).len() < count {
        assert!(Instant::now() < until, "{} dead letters", play.letters(client).len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn outage_costs_nothing(test: &str, top: &str) {
    let tables = format!("{top}{RETRY}[breaker]\nwindow = \"1s\"\npause = \"500ms\"\n");
    let Some(mut play) = Play::new(test, &tables) else { return };
    outage(&mut play, 10_000);
    // Poison that is there all the time, before and behind: it holds nothing open, and is given up as ever.
    let poison: Vec<_> = (0..3).map(|n| (format!("bad{n}"), "retry", format!("bad{n}"))).collect();
    play.send(play.client().as_mut(), &poison);
    let child = play.start();
    let shown = |words: &str| {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, out, err) = run(&play.folder, &["lag", "--json"], "");
            if out.contains(words) {
                return err;
            }
            assert!(Instant::now() < until, "no {words}: {out}{err}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert!(shown("\"breaker_open\":true").contains("the breaker is open for"));
    // With exactly-once what fails is parked, and committed so.
    wait_for_letters(&play, &mut *beside(&play.folder, &child), 3);
    let told = shown("\"breaker_open\":0,");
    assert!(!told.contains("breaker"), "{told}");
    play.settle(child);
    let mut client = play.client();
    assert_eq!(play.judge(client.as_mut()), (0, 0), "all are done, each once and in its key's order");
    let letters = play.letters(client.as_mut());
    assert_eq!(letters.len(), 3);
    let attempts =
        |record: &keyrail::record::Record| -> u32 { text(record.header(b"attempt").flatten()).parse().unwrap() };
    let most = all(client.as_mut(), "out", 4).iter().map(attempts).max();
    assert!(most <= Some(3), "an outage of 10 s cost {most:?} attempts");
}

#[test]
fn an_outage_of_some_seconds_costs_no_message_its_life() {
    outage_costs_nothing("an_outage_of_some_seconds_costs_no_message_its_life", "");
}

#[test]
fn an_outage_of_some_seconds_costs_no_message_its_life_at_least_once() {
    let test = "an_outage_of_some_seconds_costs_no_message_its_life_at_least_once";
    outage_costs_nothing(test, "guarantee = \"at-least-once\"\n");
}

#[test]
fn without_a_breaker_the_same_outage_fills_the_dead_letters() {
    let tables = format!("{RETRY}[breaker]\nfailures = 0\n");
    let test = "without_a_breaker_the_same_outage_fills_the_dead_letters";
    let Some(mut play) = Play::new(test, &tables) else { return };
    outage(&mut play, 60_000);
    let child = play.start();
    wait_for_letters(&play, &mut *beside(&play.folder, &child), KEYS);
    play.settle(child);
}
