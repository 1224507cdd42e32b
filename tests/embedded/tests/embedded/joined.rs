//! Two inputs that share keys and state: the handler of `examples/joined` joins orders with their payments. One that is missing
//! in the end was lost, and one that is there twice was joined by state that stood though its offsets did not.

use crate::commands::run;
use crate::run::{PARTITIONS, beside, guests, options, start};
use crate::support::{Folder, WAIT, all, produce, send, stopped, text, topic};
use keyrail::broker::client::Client;
use keyrail::broker::embedded::Embedded;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const KILLS: usize = 8;
/// Sent before each kill.
const BATCH: usize = 150;

/// The pipeline `joined`; `payments` has so many partitions. `None`: the handlers are not built.
fn stage(test: &str, payments: i32) -> Option<Folder> {
    let guests = guests(test)?;
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let host = "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.partitions = 4\n";
    std::fs::write(folder.path().join("keyrail.toml"), host).unwrap();
    std::fs::copy(guests.join("joined.wasm"), plugins.join("joined.wasm")).unwrap();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/joined/joined.toml");
    std::fs::copy(manifest, plugins.join("joined.toml")).unwrap();
    let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
    topic(client.as_mut(), "orders", PARTITIONS, &[]);
    topic(client.as_mut(), "payments", payments, &[]);
    Some(folder)
}

fn write(client: &mut dyn Client, topic: &str, numbers: impl Iterator<Item = usize>) {
    let texts: Vec<(String, String)> = numbers.map(|n| (format!("o{n}"), n.to_string())).collect();
    let records: Vec<_> = texts.iter().map(|(key, value)| produce(topic, key, value)).collect();
    send(client, &records);
}

/// How often each key was joined, all of them with their own.
fn joined(client: &mut dyn Client) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for record in all(client, "paid", PARTITIONS) {
        let key = text(record.key()).to_owned();
        let number = &key[1..];
        assert_eq!(text(record.value()), format!("{{\"order\":{number},\"payment\":{number}}}"));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[test]
fn each_order_is_joined_with_its_payment_once_through_kills() {
    let Some(folder) = stage("each_order_is_joined_with_its_payment_once_through_kills", PARTITIONS) else { return };
    for kill in 0..KILLS {
        let mut child = start(&folder);
        let mut client = beside(&folder, &child);
        let own = kill * BATCH..(kill + 1) * BATCH;
        // A third of the payments comes before the orders, a third behind them, the rest after the kill.
        write(client.as_mut(), "payments", own.clone().filter(|n| n % 3 == 0));
        write(client.as_mut(), "orders", own.clone());
        write(client.as_mut(), "payments", own.filter(|n| n % 3 == 1));
        let before = (kill * BATCH).saturating_sub(BATCH)..kill * BATCH;
        write(client.as_mut(), "payments", before.filter(|n| n % 3 == 2));
        std::thread::sleep(Duration::from_millis(37 * kill as u64 % 160));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let child = start(&folder);
    let mut client = beside(&folder, &child);
    write(client.as_mut(), "payments", ((KILLS - 1) * BATCH..KILLS * BATCH).filter(|n| n % 3 == 2));
    let until = Instant::now() + 3 * WAIT;
    while joined(client.as_mut()).len() < KILLS * BATCH {
        assert!(Instant::now() < until, "{} of {} are joined", joined(client.as_mut()).len(), KILLS * BATCH);
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(client);
    stopped(child);
    let counts = joined(Embedded::open(&options(&folder)).unwrap().client().unwrap().as_mut());
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let (code, out, err) = run(&folder, &["state", "list", "joined", "--json"], "");
    assert_eq!((code, out.contains("\"state\":[]")), (0, true), "nothing waits any more: {out}{err}");
}

#[test]
fn what_waits_is_shown_and_forgotten_for_all_inputs_alone() {
    let Some(folder) = stage("what_waits_is_shown_and_forgotten_for_all_inputs_alone", PARTITIONS) else { return };
    let child = start(&folder);
    write(beside(&folder, &child).as_mut(), "payments", 3..4);
    let get = |more: &[&str]| run(&folder, &[&["state", "get", "joined", "o3", "payment"], more].concat(), "");
    let until = Instant::now() + WAIT;
    while get(&[]).1 != "3" {
        assert!(Instant::now() < until, "{:?}", get(&[]));
    }
    assert_eq!(get(&["--topic", "payments"]).1, "3", "what all inputs share is that of each");
    stopped(child);
    let rewind =
        |more: &[&str]| run(&folder, &[&["rewind", "joined", "--to", "earliest", "--state"], more].concat(), "");
    let (code, _, err) = rewind(&["forget", "--topic", "payments"]);
    assert!(code == 2 && err.contains("belong to all its inputs"), "{err}");
    let (code, _, err) = rewind(&["forget"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = get(&[]);
    assert!(code == 1 && err.contains("keeps nothing for the key \"o3\""), "{err}");
}

#[test]
fn inputs_with_different_partition_counts_are_refused_with_the_cure() {
    let Some(folder) = stage("inputs_with_different_partition_counts_are_refused_with_the_cure", PARTITIONS - 1) else {
        return;
    };
    let why = "order.scope = \"inputs\" needs inputs with equally many partitions: payments has 3 and orders has 4";
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (code, out, err) = run(&folder, &["check"], "");
    assert!(code == 1 && squeezed(&format!("{out}{err}")).contains(why), "{out}{err}");
    let (code, out, err) = run(&folder, &["run"], "");
    assert!(code == 1 && squeezed(&format!("{out}{err}")).contains(why), "{out}{err}");
}
