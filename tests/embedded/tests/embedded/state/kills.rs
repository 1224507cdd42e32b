//! State under kills: at any moment, and at every named point of a message's way.

use super::{Counting, count, mixed};
use crate::points::{armed, die_everywhere};
use crate::run::beside;
use std::time::{Duration, Instant};

const KEYS: usize = 100;
const KILLS: usize = 12;
/// Messages that each life finds.
const EACH: usize = 1_000;
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
