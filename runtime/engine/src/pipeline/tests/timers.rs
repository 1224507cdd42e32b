//! Timers: no offset of the input is theirs, and their deletion is part of the transaction that holds what they did.

use super::*;

const READY: &str = "
    state
    tick => renew
    open 0 1 10
    recv 0 1 10 14
    renewed ok
";

#[test]
fn a_timer_is_committed_with_its_deletion_and_the_offset_of_its_partition() {
    check(&format!(
        "{READY}
        pub -7 1 $t- => t1
        ack t1
        at 100
        tick => keep t2 of 0 t-
        ack t2 => commit 1: 0@10 s1
        done 1 => kept 0 t-
        pub -8 0 $u- => -
        at 200
        tick => keep t3 of 0 u-
        ack t3 => commit 2: 0@10 s2",
    ));
}

#[test]
fn what_a_timer_sends_and_is_never_taken_is_learnt_and_forgotten_once_it_is_gone() {
    check(&format!(
        "{READY}
        pub -7 1 $t- $a=1 => t1
        never t1 big
        at 100
        tick => given up: the message at offset -7 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 -7, restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub -7 1 e=2 $t=2 $a=1 => - letter t2
        ack t2 => free 0@2:-7
        at 200
        tick => keep t3 of 0 t-
        ack t3 => commit 1: 0@10 s1
        done 1 => kept 0 t-
        pub -7 1 e=2 $t- => t4",
    ));
}
