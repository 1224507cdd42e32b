//! State under kills: at any moment, and at every named point of a message's way.

use super::{AT_LEAST_ONCE, Counting, RETRY, count, kept, mixed};
use crate::play::Play;
use crate::points::{armed, die_everywhere};
use crate::run::{beside, by_key};
use std::time::{Duration, Instant};

const KEYS: usize = 100;
const KILLS: usize = 12;
/// Messages that each life finds.
const EACH: usize = 1_000;
/// The same where nothing fails.
const MANY: usize = 5_000;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_process_killed_at_any_moment_leaves_no_count_out_and_none_twice() {
    let test = "a_process_killed_at_any_moment_leaves_no_count_out_and_none_twice";
    let Some(mut counting) = Counting::new(test, "commit.interval = \"20ms\"\n") else { return };
    let mut killed_with = 0;
    for kill in 0..KILLS {
        let mut child = counting.play.start();
        let mut client = beside(&counting.play.folder, &child);
        counting.send(client.as_mut(), &mixed(kill * EACH, (kill + 1) * EACH, KEYS));
        // Some die while they read what state there is, the others with this share of the messages undone.
        let left = if kill % 4 == 3 { counting.play.uncommitted(client.as_mut()) } else { EACH * (kill % 4) / 4 };
        let until = Instant::now() + LIMIT;
        while counting.play.uncommitted(client.as_mut()) > left {
            assert!(Instant::now() < until, "it does not get on");
        }
        std::thread::sleep(Duration::from_millis(kill as u64 * 7 % 20));
        drop(client);
        child.kill().unwrap();
        child.wait().unwrap();
        killed_with += counting.play.uncommitted(counting.play.client().as_mut());
    }
    assert!(killed_with > 0, "no kill left anything uncommitted: nothing was tested");
    counting.play.settle(counting.play.start());
    counting.judge();
}

#[test]
fn a_process_killed_at_any_named_point_leaves_no_count_out_and_none_twice() {
    let test = "a_process_killed_at_any_named_point_leaves_no_count_out_and_none_twice";
    if !armed(test) {
        return;
    }
    let Some(Counting { mut play, mut counts }) = Counting::new(test, "commit.interval = \"20ms\"\n") else { return };
    let window = die_everywhere(&mut play, true, &mut |play, life| {
        let mut client = play.client();
        count(play, &mut counts, client.as_mut(), &mixed(life * EACH, (life + 1) * EACH, KEYS));
    });
    assert!(window > 0, "no death left anything uncommitted: nothing was tested");
    Counting { play, counts }.judge();
}

/// A count may be too high by what was not committed at a kill and ran again. None is too low, and each says what it saw.
#[test]
fn with_at_least_once_a_process_killed_at_any_moment_counts_no_message_less_than_once() {
    let test = "with_at_least_once_a_process_killed_at_any_moment_counts_no_message_less_than_once";
    let tables = format!("{RETRY}{AT_LEAST_ONCE}commit.interval = \"20ms\"\n");
    let Some(mut play) = Play::of(test, "tally", &tables) else { return };
    let mut window = 0;
    for kill in 0..KILLS {
        let mut child = play.start();
        let mut client = beside(&play.folder, &child);
        let message = |n: usize| (format!("k{}", n % KEYS), format!("{n:0>7}"));
        play.send_plain(client.as_mut(), &(kill * MANY..(kill + 1) * MANY).map(message).collect::<Vec<_>>());
        // In the midst of them.
        let (left, until) = (MANY * (1 + kill % 3) / 4, Instant::now() + LIMIT);
        while play.uncommitted(client.as_mut()) > left {
            assert!(Instant::now() < until, "it does not get on");
        }
        drop(client);
        child.kill().unwrap();
        child.wait().unwrap();
        window += play.uncommitted(play.client().as_mut());
    }
    assert!(window > 0, "no kill left anything uncommitted: nothing was tested");
    play.settle(play.start());
    let mut client = play.client();
    let (outputs, state) = (by_key(client.as_mut(), "out"), kept(client.as_mut()));
    let mut too_many = 0;
    for key in (0..KEYS).map(|n| format!("k{n}")) {
        let own: Vec<(usize, &str)> = outputs[&key]
            .iter()
            .map(|line| line.split_once(' ').map(|(count, value)| (count.parse().unwrap(), value)).unwrap())
            .collect();
        let mut values: Vec<&str> = own.iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), KILLS * MANY / KEYS, "{key}: messages are lost");
        let last = own.last().unwrap().0;
        assert_eq!(
            state[&key].as_deref(),
            Some(last.to_string().as_str()),
            "{key}: its state is not what was last told"
        );
        assert!(last >= values.len(), "{key}: {last} counted, and it had {} messages", values.len());
        too_many += last - values.len();
    }
    assert!(too_many <= window, "{too_many} counted again, and {window} were uncommitted");
}
