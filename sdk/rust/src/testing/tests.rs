use super::*;
use crate::error::Error;
use crate::prelude::*;

fn fails(_message: &Message, ctx: &Context<'_>) -> Outcome {
    ctx.send("out", "never").dispatch()?;
    ctx.state().put("n", "never")?;
    ctx.timers().set("t", 0, "never")?;
    Err(retry("no", "not now"))
}

#[test]
fn what_a_failed_message_staged_is_undone() {
    let mut host = Host::new().output("out");
    let run = host.run(fails, Input::new("x").key("k"));
    assert_eq!(run.outcome, Err(retry("no", "not now")));
    assert!(run.undone && run.sent.is_empty());
    assert_eq!(host.state("k", "n"), None);
    assert_eq!(host.timers(), []);
}

#[test]
fn what_follows_a_failure_of_its_key_in_the_batch_is_undone() {
    let mut host = Host::new().output("out");
    let process = |batch: &[Delivery<'_>]| {
        let handle = |Delivery { message, ctx }: &Delivery<'_>| {
            ctx.send("out", message.value()).dispatch()?;
            if message.value() == Some(b"bad") { Err(dead_letter("bad", "")) } else { Ok(Done) }
        };
        batch.iter().map(handle).collect()
    };
    let inputs = [("a", "1"), ("a", "bad"), ("b", "2"), ("a", "3"), ("", "bad"), ("", "4")];
    let inputs = inputs.map(|(key, value)| Input::new(value).key((!key.is_empty()).then_some(key)));
    let runs = host.run_batch(process, inputs);
    let undone: Vec<bool> = runs.iter().map(|run| run.undone).collect();
    assert_eq!(undone, [false, true, false, true, true, false], "no key, no order");
    let sent: Vec<&[u8]> = runs.iter().flat_map(|run| &run.sent).map(Sent::value).collect();
    assert_eq!(sent, [&b"1"[..], b"2", b"4"]);
}

fn count(message: &Message, ctx: &Context<'_>) -> Outcome {
    let before = ctx.state().get("count")?.map_or(0, |bytes| bytes[0]);
    if message.value().is_none() {
        ctx.state().delete("count")?;
    } else {
        ctx.state().put("count", [before + 1])?;
    }
    Ok(Done)
}

#[test]
fn state_belongs_to_the_key_and_is_seen_by_later_slots() {
    let mut host = Host::new();
    let handle = |batch: &[Delivery<'_>]| batch.iter().map(|d| count(d.message, &d.ctx)).collect();
    host.run_batch(handle, ["a", "b", "a"].map(|key| Input::new("x").key(key)));
    assert_eq!((host.state("a", "count"), host.state("b", "count")), (Some(vec![2]), Some(vec![1])));
    host.run(count, Input::new(Null).key("a"));
    assert_eq!(host.state("a", "count"), None);
    assert_eq!(host.run(count, "x").outcome, Err(dead_letter("no-key", Error::NoKey)));
}

#[test]
fn state_goes_away_after_its_time() {
    let mut host = Host::new();
    let put = |_: &Message, ctx: &Context<'_>| {
        ctx.state().put_for("lock", "1", Duration::from_millis(1_500))?;
        Ok(Done)
    };
    assert_eq!(host.run(put, Input::new("x").key("k")).outcome, Ok(Done));
    host.advance(Duration::from_millis(1_499));
    assert_eq!(host.state("k", "lock"), Some(b"1".to_vec()));
    host.advance(Duration::from_millis(1));
    assert_eq!(host.state("k", "lock"), None);
}

#[test]
fn a_scan_lists_what_is_stored_and_staged_in_byte_order() {
    let mut host = Host::new();
    for name in ["a/3", "a/1", "b/1", "a/2"] {
        host.set_state("k", name, name);
    }
    host.set_state("other", "a/0", "");
    let mut pages = Vec::new();
    let scan = |_: &Message, ctx: &Context<'_>| {
        ctx.state().delete("a/2")?;
        ctx.state().put("a/4", "new")?;
        for after in [None, Some("a/1")] {
            let names = ctx.state().scan("a/", after, 2)?.into_iter().map(|(name, _)| name);
            pages.push(names.collect::<Vec<_>>().join(" "));
        }
        Ok(Done)
    };
    assert_eq!(host.run(scan, Input::new("x").key("k")).outcome, Ok(Done));
    assert_eq!(pages, ["a/1 a/3", "a/3 a/4"]);
}

#[test]
fn state_has_the_real_host_s_limits() {
    let mut host = Host::new().limits(1000, 16 << 20);
    let mut told = Vec::new();
    let handle = |message: &Message, ctx: &Context<'_>| {
        let state = ctx.state();
        let (name, long) = ("n".repeat(1_024), "n".repeat(1_025));
        if message.key().is_some_and(|key| key.len() > 32 << 10) {
            told.push(state.put("n", "").err());
            told.push(state.get("n").err());
            told.push(state.scan("", None, 1).err());
            return Ok(Done);
        }
        state.put(&name, vec![0; 512 << 10])?;
        state.put_for("v", vec![0; 512 << 10], Duration::from_secs(1))?;
        told.extend([state.put("v", vec![0; (512 << 10) + 1]).err(), state.put(&long, "").err()]);
        told.extend([state.delete(&long).err(), state.get(&long).err(), state.scan(&long, None, 1).err()]);
        told.extend([state.scan("", Some(&long), 1).err(), state.scan("", None, 1_001).err()]);
        assert_eq!(state.scan("", None, 1_000)?.len(), 2);
        Ok(Done)
    };
    let mut handle = handle;
    assert_eq!(host.run(&mut handle, Input::new("x").key("k")).outcome, Ok(Done));
    assert_eq!(host.run(&mut handle, Input::new("x").key("k".repeat((32 << 10) + 1))).outcome, Ok(Done));
    assert_eq!(told, vec![Some(Error::TooLarge); 10]);
    assert_eq!(host.state("k", "v").map(|value| value.len()), Some(512 << 10), "what was refused changed nothing");
}

#[test]
fn a_page_of_a_scan_has_an_end() {
    let mut host = Host::new();
    for n in 0..9 {
        host.set_state("k", &format!("{n}"), vec![0; 500 << 10]);
    }
    let mut pages = Vec::new();
    let scan = |_: &Message, ctx: &Context<'_>| {
        pages.extend([8, 9].map(|limit| ctx.state().scan("", None, limit).map(|page| page.len())));
        Ok(Done)
    };
    host.run(scan, Input::new("x").key("k"));
    assert_eq!(pages, [Ok(8), Err(Error::TooLarge)], "4 MiB");
}

#[test]
fn what_is_kept_counts_like_what_is_sent() {
    // Of a change count its name, its value, its key and three bytes, and 64 more.
    let mut host = Host::new().output("out").limits(1000, 101 + 2 * 70 + 7);
    let mut told = Vec::new();
    let handle = |_: &Message, ctx: &Context<'_>| {
        ctx.send("out", vec![0; 100]).dispatch()?;
        ctx.state().put("n", "v")?;
        ctx.state().delete("nn")?;
        told.push(ctx.state().put("n", "").err());
        told.push(ctx.send("out", "1234567").dispatch().err());
        told.push(ctx.send("out", "123456").dispatch().err());
        Ok(Done)
    };
    assert_eq!(host.run(handle, Input::new("x").key("k")).outcome, Ok(Done));
    assert_eq!(told, [Some(Error::OverQuota), Some(Error::OverQuota), None]);
    assert_eq!(host.state("k", "n"), Some(b"v".to_vec()));
}

#[test]
fn a_timer_comes_back_as_a_message_of_its_key() {
    let mut host = Host::new();
    let start = host.setup().host.edit(|inner| inner.now_ms);
    let set = |message: &Message, ctx: &Context<'_>| {
        match message.timer() {
            Some("first") => ctx.timers().cancel("never")?,
            Some(_) => {}
            None => {
                ctx.timers().set_after("second", Duration::from_secs(2), "late")?;
                ctx.timers().set_after("first", Duration::from_secs(9), "replaced")?;
                ctx.timers().set("first", ctx.now_ms() + 1_000, "soon")?;
                ctx.timers().set("never", i64::MAX, "")?;
            }
        }
        Ok(Done)
    };
    host.run(set, Input::new("x").key("k").position(4, 44));
    assert!(host.due_timers().is_empty());
    host.advance(Duration::from_secs(2));
    let due = host.due_timers();
    let mut seen = Vec::new();
    for timer in due {
        let keep = |message: &Message, ctx: &Context<'_>| {
            seen.push((message.clone(), ctx.topic().is_none()));
            set(message, ctx)
        };
        assert_eq!(host.run(keep, timer).outcome, Ok(Done));
    }
    let [(first, true), (second, true)] = &seen[..] else { panic!("two timers, not {seen:?}") };
    assert_eq!((first.timer(), first.value(), first.key()), (Some("first"), Some(&b"soon"[..]), Some(&b"k"[..])));
    assert_eq!((first.partition(), first.offset(), first.timestamp_ms()), (4, 44, start + 1_000));
    assert_eq!((second.timer(), second.value()), (Some("second"), Some(&b"late"[..])));
    assert_eq!(host.timers(), [], "`never` was cancelled");
}

#[test]
fn a_send_carries_key_time_and_trace_unless_told_otherwise() {
    let mut host = Host::new().output("out");
    let handle = |_: &Message, ctx: &Context<'_>| {
        ctx.send("out", "plain").dispatch()?;
        let out = ctx.send("out", Null).key(Null).header("own", "1").timestamp_ms(9).delay(Duration::from_secs(1));
        out.forward_headers().dispatch()?;
        Ok(Done)
    };
    let input = Input::new("x").key("k").header("traceparent", "t").header("h", "2").timestamp_ms(5);
    let run = host.run(handle, input);
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: Some(value.into()) };
    let plain = Sent {
        to: "out".to_owned(),
        key: Some(b"k".to_vec()),
        value: Some(b"plain".to_vec()),
        headers: vec![header("traceparent", "t")],
        timestamp_ms: 5,
        delay: None,
    };
    let changed = Sent {
        to: "out".to_owned(),
        key: None,
        value: None,
        headers: vec![header("traceparent", "t"), header("h", "2"), header("own", "1")],
        timestamp_ms: 9,
        delay: Some(Duration::from_secs(1)),
    };
    assert_eq!(run.sent, [plain, changed]);
}

#[test]
fn quotas_hold_per_message() {
    let mut host = Host::new().output("out").limits(2, 10);
    let mut refusals = Vec::new();
    let handle = |_: &Message, ctx: &Context<'_>| {
        for (to, bytes) in [("nowhere", 1), ("out", 11), ("out", 6), ("out", 5), ("out", 4), ("out", 0)] {
            refusals.push(ctx.send(to, vec![0; bytes]).dispatch().err());
        }
        Ok(Done)
    };
    assert_eq!(host.run(handle, "x").sent.len(), 2);
    let over = Some(Error::OverQuota);
    assert_eq!(refusals, [Some(Error::UnknownOutput), over.clone(), None, over.clone(), None, over]);
}

#[test]
fn chance_is_the_same_when_a_run_is_repeated() {
    let roll = |attempt| {
        let mut numbers = Vec::new();
        let handle = |_: &Message, ctx: &Context<'_>| {
            numbers.extend([ctx.random(), ctx.random()]);
            Ok(Done)
        };
        Host::new().run(handle, Input::new("x").position(0, 7).attempt(attempt));
        numbers
    };
    assert_eq!(roll(1), roll(1));
    assert_ne!(roll(1), roll(2));
    assert_ne!(roll(1)[0], roll(1)[1]);
}

#[test]
fn chance_is_that_of_the_real_host() {
    let mut first = 0;
    let handle = |_: &Message, ctx: &Context<'_>| {
        first = ctx.random();
        Ok(Done)
    };
    Host::new().topics(&["in"]).run(handle, Input::new("x").position(3, 1));
    assert_eq!(first, 16_833_588_073_517_965_512, "as seen from a handler in WebAssembly");
}

#[test]
fn the_context_knows_the_message() {
    let mut host = Host::new().topics(&["a", "b"]);
    let handle = |_: &Message, ctx: &Context<'_>| {
        assert_eq!((ctx.topic(), ctx.id().as_str()), (Some("b"), "b/2/5"));
        assert_eq!(ctx.header("h"), Some(b"2".to_vec()), "the last of that name");
        assert_eq!((ctx.header("none"), ctx.header("null")), (None, None));
        assert_eq!(ctx.headers().len(), 3);
        assert!(ctx.follows_dead_letter());
        assert_eq!(ctx.deadline_ms(), ctx.now_ms() + 5_000);
        assert_eq!((ctx.setup().handler(), ctx.setup().max_batch()), ("test", 256));
        Ok(Skip)
    };
    let input = Input::new("x").topic(1).position(2, 5).header("h", "1").header("null", Null).header("h", "2");
    assert_eq!(host.run(handle, input.follows_dead_letter()).outcome, Ok(Skip));
}

#[test]
fn metrics_are_registered_once_and_observed() {
    let mut host = Host::new();
    let (one, again) = (host.setup().counter("n", &[("l", "1")]), host.setup().counter("n", &[("l", "1")]));
    assert_eq!(one, again);
    let other = host.setup().counter("n", &[("l", "2")]);
    assert_ne!(one, other);
    let handle = |_: &Message, ctx: &Context<'_>| {
        ctx.observe(one, 1.0);
        ctx.observe(other, 2.0);
        Err(retry("no", "observed all the same"))
    };
    host.run(handle, "x");
    assert_eq!(host.observed("n"), [1.0, 2.0]);
    assert!(host.observed("none").is_empty());
}

#[test]
fn each_host_keeps_its_own_log() {
    let (mut one, mut two) = (Host::new(), Host::new());
    let handle = |message: &Message, _: &Context<'_>| {
        warn!(size = message.value().map_or(0, <[u8]>::len); "seen");
        Ok(Done)
    };
    one.run(handle, "abc");
    two.run(handle, "a");
    warn!("outside of any run");
    let line = |size: &str| LogLine {
        level: log::Level::Warn,
        message: "seen".to_owned(),
        fields: vec![("size".to_owned(), size.to_owned())],
    };
    assert_eq!((one.logs(), two.logs()), (vec![line("3")], vec![line("1")]));
}

#[test]
#[should_panic(expected = "one outcome for each message")]
fn a_wrong_count_is_a_failed_test() {
    Host::new().run_batch(|_| Vec::new(), ["x"]);
}
