//! Random operations against a map.

use crate::support::*;
use keyrail_store::{Change, Entry, Error, MOST_KEY_BYTES, MemoryState, StateIndex};
use std::sync::Arc;

/// Some operations, each of whose answers is right.
fn step(index: &dyn StateIndex, model: &mut Model, chance: &mut Chance, why: &str) {
    match chance.below(10) {
        0..4 => {
            let changes: Vec<_> = (0..chance.below(60)).map(|_| chance.change()).collect();
            let position = (chance.below(3) > 0).then(|| chance.below(10_000) as i64);
            index.apply(&changes, position).unwrap();
            model.apply(&changes, position);
        }
        4 => {
            let position = chance.below(10_000) as i64;
            index.reach(position, 5).unwrap();
            model.apply(&[], Some(position));
        }
        5..8 => {
            let key = chance.key();
            assert_eq!(index.get(&key).unwrap().as_ref(), model.entries.get(&*key), "{why}: {key:?}");
        }
        8 => {
            let (mut prefix, after) = (chance.key(), (chance.below(2) == 0).then(|| chance.key()));
            prefix.truncate(chance.below(4) as usize);
            let (after, limit) = (after.as_deref(), chance.below(30) as usize);
            let found = index.scan(&prefix, after, limit).unwrap();
            assert_eq!(found, model.scan(&prefix, after, limit), "{why}: {prefix:?} after {after:?}, {limit}");
        }
        _ => {
            let (before_ms, limit) = (chance.below(1_000) as i64 - 100, chance.below(30) as usize);
            let found = index.expired(before_ms, limit).unwrap();
            assert_eq!(found, model.expired(before_ms, limit), "{why}: {before_ms}, {limit}");
        }
    }
    assert_eq!(index.position(), model.position, "{why}");
}

#[test]
fn in_memory_it_answers_as_a_map_does() {
    for seed in 0..20 {
        let (index, mut model, mut chance) = (MemoryState::new(identity()), Model::default(), Chance(seed));
        for n in 0..300 {
            step(&index, &mut model, &mut chance, &format!("seed {seed}, step {n}"));
        }
        model.check(&index, &format!("seed {seed}"));
        assert_eq!(index.stats().entries, model.entries.len() as u64);
        assert_eq!(index.identity(), &identity());
    }
}

/// Of a batch with one that can't be taken none is.
fn refuses_what_is_too_large(index: &dyn StateIndex) {
    let entry = Entry { value: [1].as_slice().into(), expires_ms: None };
    let change = |bytes: usize| Change { key: vec![7; bytes].into(), entry: Some(entry.clone()) };
    index.apply(&[change(MOST_KEY_BYTES)], Some(1)).unwrap();
    let refused = index.apply(&[change(1), change(MOST_KEY_BYTES + 1)], Some(2)).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { what: "key", .. }), "{refused}");
    assert!(refused.to_string().contains("more than 65536"), "{refused}");
    assert_eq!((index.get(&[7]).unwrap(), index.position()), (None, Some(1)));
    let found = index.scan(&[7], None, 9).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found.first().map(|(key, e)| (Arc::clone(key), e)), Some((vec![7; MOST_KEY_BYTES].into(), &entry)));
}

#[test]
fn in_memory_it_refuses_what_is_too_large() {
    refuses_what_is_too_large(&MemoryState::new(identity()));
}

#[test]
fn on_disk_it_answers_as_a_map_does_also_when_it_is_opened_again() {
    for seed in 0..12 {
        let (folder, mut model, mut chance) = (Folder::new("model"), Model::default(), Chance(seed));
        let mut store = start(&folder.0);
        let mut index = open(&store);
        let mut dropped = 0;
        for n in 0..400 {
            let why = format!("seed {seed}, step {n}");
            match chance.below(40) {
                0..4 => {
                    index.flush().unwrap();
                    assert_eq!(index.checkpoint(), model.position, "{why}");
                    assert_eq!(index.stats().entries, model.entries.len() as u64, "{why}");
                }
                4 => {
                    index.flush().unwrap();
                    drop(index);
                    if chance.below(2) == 0 {
                        drop(store);
                        store = start(&folder.0);
                    }
                    index = open(&store);
                    assert_eq!(index.position(), model.position, "{why}");
                    model.check(&index, &why);
                    dropped += 1;
                }
                5 => model.check(&index, &why),
                _ => step(&index, &mut model, &mut chance, &why),
            }
        }
        model.check(&index, &format!("seed {seed}"));
        assert!(dropped > 0 && index.stats().failing.is_none(), "seed {seed}");
    }
}

#[test]
fn on_disk_it_refuses_what_is_too_large() {
    let folder = Folder::new("large");
    let store = start(&folder.0);
    let index = open(&store);
    refuses_what_is_too_large(&index);
    index.flush().unwrap();
    assert_eq!(index.scan(&[7], None, 9).unwrap().len(), 1);
    assert_eq!(index.get(&vec![7; MOST_KEY_BYTES]).unwrap().map(|e| e.value.len()), Some(1));
}

/// Many keys, so that there are many blocks, which split, grow and go.
#[test]
fn a_hundred_thousand_keys_come_change_and_go() {
    let (folder, mut model, mut chance) = (Folder::new("many"), Model::default(), Chance(3));
    let store = start(&folder.0);
    let index = open(&store);
    for round in 0..6u64 {
        for n in 0..100 {
            let change = |_| {
                // Of the last rounds most are deletions.
                let key = chance.below(100_000).to_string();
                let change = chance.change_of(key.as_bytes());
                if round > 3 && n < 95 { Change { entry: None, ..change } } else { change }
            };
            let changes: Vec<_> = (0..1_000).map(change).collect();
            let position = Some((round * 100 + n) as i64);
            index.apply(&changes, position).unwrap();
            model.apply(&changes, position);
        }
        index.flush().unwrap();
        assert_eq!(index.stats().entries, model.entries.len() as u64, "round {round}");
        if round % 2 == 1 {
            model.check(&index, &format!("round {round}"));
        }
    }
    assert!(index.stats().read_from_disk > 100_000);
    drop((index, store));
    model.check(&open(&start(&folder.0)), "opened again");
}
