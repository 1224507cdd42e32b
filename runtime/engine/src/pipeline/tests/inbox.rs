//! Commands from outside: what of an inbox is dealt with stands in the commit that holds what came of it.
//!
//! | command | answer |
//! |---|---|
//! | `inbox LOG` | where partition 0 is read from |
//! | `cmd AT [e=EPOCH]`, `note AT` | what becomes of a command there, or of something else |
//! | `obeyed AT ID [wanted] OFFSET NUMBER drop` or `park` | a shard has obeyed it |
//! | `denied AT ID` | or not |

use super::*;
use crate::inbox::{CommandId, Refused};

impl Rig {
    pub(super) fn command(&mut self, words: &[&str]) -> String {
        let mark = |name: &str| words.iter().find_map(|w| w.strip_prefix(name));
        let epoch = Epoch(mark("e=").map_or(1, number));
        let at = number::<i64>(words[1]);
        let id = |word: &str| CommandId([number(word); 16]);
        match words {
            ["inbox", ..] => return format!("{:?}", self.pipeline.inbox(P0, epoch, at as u32)).to_lowercase(),
            ["cmd" | "note", ..] => {
                let received = self.pipeline.command(P0, epoch, at, words[0] == "cmd");
                return format!("{received:?}").to_lowercase();
            }
            ["denied", _, name, ..] => {
                let refused = Err(Refused::NotParked);
                self.pipeline.obeyed((P0, epoch, at), (id(name), false), refused, self.now, &mut self.actions);
            }
            ["obeyed", _, name, more @ ..] => {
                let wanted = more.first() == Some(&"wanted");
                let [offset, place, what, ..] = more[usize::from(wanted)..] else { panic!("which? {words:?}") };
                let history = crate::retry::History::default();
                let waiting = parking::Waiting {
                    number: number(place),
                    due_ms: 0,
                    history,
                    failure: Failure::default(),
                    given_up: None,
                };
                let fate = if what == "drop" { Fate::Discarded(epitaph()) } else { Fate::Parked(Box::new(waiting)) };
                let marks = [format!("q={place}"), format!("e={}", epoch.0)];
                let settled = settled(offset, &[&marks[0], &marks[1]], fate);
                let named = (id(name), wanted);
                self.pipeline.obeyed((P0, epoch, at), named, Ok(settled), self.now, &mut self.actions);
            }
            _ => panic!("which? {words:?}"),
        }
        String::new()
    }

    /// What the last commit says of the inbox: its log, the first that is not obeyed, and those behind it that are.
    fn committed(&mut self, command: &str) -> (u32, i64, u64) {
        self.obey(command);
        self.kept
    }
}

const READY: &str = "
    state
    tick => renew
    open 0 1 10
    recv 0 1 10 14
    renewed ok
    inbox 7 => some(0)
";

#[track_caller]
fn check_ready(script: &str) -> Rig {
    check(&format!("{READY}{script}"))
}

#[test]
fn what_a_command_changes_is_in_the_transaction_that_moves_its_place_in_the_inbox() {
    let mut rig = check_ready(
        "cmd 3 => obey
        cmd 5 => obey
        cmd 3 => known
        obeyed 3 1 wanted 4 9 drop =>
        obeyed 5 2 6 8 park => park t1
        ack t1
        at 100
        tick => unpark t2 of 0 4, answer t3 of 0 1=Obeyed
        ack t2",
    );
    assert_eq!(rig.committed("ack t3"), (7, 6, 0));
    let answer = rig.obey("done 1");
    assert_eq!(answer, "parked 0@1 4:9- 6:8");
}

#[test]
fn a_command_that_is_not_obeyed_is_answered_and_passed() {
    let mut rig = check_ready(
        "cmd 0 => obey
        denied 0 1 =>
        at 100
        tick => answer t1 of 0 1=Refused(\"it is not parked (any more)\")",
    );
    assert_eq!(rig.committed("ack t1"), (7, 1, 0));
}

#[test]
fn what_is_obeyed_before_an_earlier_one_is_told_apart_and_too_far_ahead_waits() {
    let mut rig = check_ready(
        "cmd 0 => obey
        cmd 2 => obey
        note 3 => known
        cmd 64 => obey
        cmd 65 => later
        obeyed 2 1 6 8 drop =>
        obeyed 64 1 7 9 drop =>
        at 100
        tick => unpark t1 of 0 6 7
        ack t1",
    );
    assert_eq!(rig.committed("ack t1"), (7, 0, 0b110 | 1 << 63));
    rig.obey("done 1");
    for (command, expected) in
        [("cmd 2", "known"), ("cmd 65", "later"), ("obeyed 0 1 8 9 drop", ""), ("cmd 65", "obey")]
    {
        assert_eq!(rig.obey(command), expected, "{command}");
    }
}

#[test]
fn a_partition_that_starts_anew_reads_its_inbox_from_what_is_committed() {
    check_ready(
        "cmd 0 => obey
        cmd 1 => obey
        obeyed 1 1 6 8 drop =>
        at 100
        tick => unpark t1 of 0 6
        busy t1 full => given up: its parked messages: full, pause 0, blocked 0 by output: its parked messages: full
        cmd 2 => gone
        obeyed 0 1 6 8 drop =>
        tick => renew
        renewed ok
        at 200
        tick => restart 0 or 10
        open 0 2 10 s=1 => resume 0
        cmd 0 => gone
        inbox 7 e=2 => some(0)
        cmd 0 e=2 => obey
        cmd 1 e=2 => obey",
    );
}

#[test]
fn what_was_obeyed_before_stands_behind_what_is_passed_and_is_passed_with_it() {
    let mut rig = check_ready(
        "cmd 0 => obey
        cmd 1 => obey
        cmd 2 => obey
        obeyed 2 1 6 8 drop =>
        at 100
        tick => unpark t1 of 0 6
        ack t1 => commit 1: 0@10 s1
        done 1 => parked 0@1 6:8-
        obeyed 0 1 7 9 drop =>
        obeyed 1 1 8 10 drop =>
        at 200
        tick => unpark t2 of 0 7 8
        ack t2",
    );
    assert_eq!(rig.committed("ack t2"), (7, 3, 0), "the third one was obeyed before the first two");
}

#[test]
fn answers_of_a_transaction_that_is_given_up_are_not_written_with_the_next() {
    check_ready(
        "open 1 1 20
        recv 1 1 20 21
        cmd 0 => obey
        denied 0 1 =>
        pub 4 1 => t1
        busy t1 full => given up: full, pause 0, blocked 0 by output: full
        tick => renew
        renewed ok
        at 200
        pub 20 0 p=1 => -
        tick => restart 0 or 10, commit 1: 1@21 s1",
    );
}

#[test]
fn an_inbox_that_was_made_anew_is_read_from_its_start() {
    check_ready(
        "note 40 => known
        inbox 7 => some(41)
        inbox 0 => some(41)
        inbox 8 => some(0)
        inbox 8 e=3 => none
        cmd 2 => obey",
    );
}

#[test]
fn answers_that_are_not_taken_are_left_out_and_nothing_else_is() {
    check_ready(
        "cmd 0 => obey
        obeyed 0 1 wanted 6 8 drop =>
        at 100
        tick => unpark t1 of 0 6, answer t2 of 0 1=Obeyed
        ack t1
        busy t2 away => given up: answers to commands: away, pause 0
        tick => renew
        renewed ok => restart 0 or 10
        open 0 2 10 s=1 => resume 0
        inbox 7 e=2 => some(0)
        cmd 0 e=2 => obey
        obeyed 0 1 wanted 6 8 drop e=2 =>
        at 300
        tick => unpark t3 of 0 6
        ack t3 => commit 1: 0@10 s2",
    );
}
