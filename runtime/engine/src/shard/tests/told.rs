//! What a shard tells beside what is settled.

use super::*;
use alloc::vec;

#[test]
fn what_runs_again_is_told_once_to_whom_asked_and_dead_letters_name_the_version() {
    let mut shard: Shard<()> = Shard::new(policy(), 1);
    let now = Now { steady_ms: 0, wall_ms: 0 };
    shard.open(P0, Epoch(1), NOTHING_SEEN, &Ranges::default());
    let failure = Failure { code: "busy".into(), detail: "later".into() };
    let retry = || Outcome::Retry { failure: failure.clone(), delay_ms: None, outage: false };
    let mut settled = Vec::new();
    let run = |shard: &mut Shard<()>, outcome: Outcome, settled: &mut Vec<Settled<()>>, at: u64| {
        let now = Now { steady_ms: at, ..now };
        assert!(matches!(shard.next(now, &NoPast, &NothingParked, settled), Next::Run(_)));
        shard.complete(vec![outcome], 1, now, settled);
    };
    assert!(shard.accept(ticket("a7"), (), now));
    run(&mut shard, retry(), &mut settled, 0);
    assert_eq!(shard.retried(), [], "nobody asked");
    shard.tell_retries();
    shard.serve(3);
    run(&mut shard, retry(), &mut settled, 1_000_000);
    let told = shard.retried();
    assert_eq!((told.len(), told[0].ticket.offset, told[0].failures), (1, 7, 2));
    assert_eq!(told[0].failure, failure);
    assert!(told[0].due_ms > 1_000_000);
    assert_eq!(shard.retried(), [], "told once");
    run(&mut shard, Outcome::DeadLetter(failure.clone()), &mut settled, 2_000_000);
    let Fate::DeadLetter(epitaph) = &settled[0].fate else { panic!("{settled:?}") };
    assert_eq!(epitaph.version, Some(3));
}
