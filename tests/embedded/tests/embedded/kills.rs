//! A process that writes is killed at any moment: what it noted as acknowledged is there.

use crate::support::{Folder, WAIT, all, text};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: u64 = 25;

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let folder = Folder::new();
    let acks = folder.path().join("acks");
    let mut before = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(env!("CARGO_BIN_EXE_embedded-rig"))
            .arg("produce")
            .args([&folder.data(), &acks])
            .arg((kill * 1_000_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "kill {kill}: it did not start again");
        // Every third dies at once, maybe in its first transaction; the others some transactions later, however slow the
        // disk is.
        let noted = || std::fs::metadata(&acks).map_or(0, |file| file.len() as usize);
        let until = Instant::now() + WAIT;
        while kill % 3 != 0 && noted() <= before + 1 {
            assert!(Instant::now() < until, "kill {kill}: nothing is acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(kill * 37 % 100));
        child.kill().unwrap();
        child.wait().unwrap();
        let noted = std::fs::read_to_string(&acks).unwrap_or_default();
        assert!(noted.len() >= before);
        before = noted.len();
    }
    let noted = std::fs::read_to_string(&acks).unwrap();
    let acknowledged: BTreeSet<&str> = noted.lines().filter_map(|line| line.strip_suffix(';')).collect();
    let torn = noted.lines().filter(|line| !line.is_empty() && !line.ends_with(';')).count();
    let mut client = folder.open().client().unwrap();
    let records = all(client.as_mut(), "t", 4);
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        assert_eq!(record.key(), record.value());
        *found.entry(text(record.value())).or_default() += 1;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|number| !found.contains_key(*number)).collect();
    assert!(lost.is_empty(), "{lost:?} of {} acknowledged ({torn} notes were cut by a kill)", acknowledged.len());
    let least = KILLS as usize / 3 * 2;
    assert!(acknowledged.len() >= least, "only {} were acknowledged: nothing was tested", acknowledged.len());
    assert!(found.values().all(|times| *times == 1), "a record was written twice");
    for partition in 0..4 {
        let offsets = records.iter().filter(|r| r.at.partition == partition).map(|r| r.offset);
        assert!(offsets.zip(0..).all(|(offset, expected)| offset == expected), "a hole in partition {partition}");
    }
}
