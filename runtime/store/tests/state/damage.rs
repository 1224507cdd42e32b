//! What is not what was written: noticed, never believed.

use crate::support::*;
use keyrail_store::{Error, STALE_AFTER_MS, StateIdentity, StateIndex, StateStore};
use std::path::{Path, PathBuf};

const KEYS: u64 = 4_000;

/// A folder with a task of some hundred blocks, in which much has changed.
fn filled(folder: &Path) -> Model {
    let (mut model, mut chance) = (Model::default(), Chance(9));
    let store = start(folder);
    let index = open(&store);
    for n in 0..12 {
        let changes: Vec<_> = (0..1_000)
            .map(|_| {
                let key = format!("key {}", chance.below(KEYS));
                chance.change_of(key.as_bytes())
            })
            .collect();
        index.apply(&changes, Some(n)).unwrap();
        model.apply(&changes, Some(n));
        if n % 4 == 0 {
            index.flush().unwrap();
        }
    }
    index.reach(12, 0).unwrap();
    model.position = Some(12);
    index.flush().unwrap();
    model
}

/// Opened after harm: nothing counts and it says why, or every answer is right or an error of damage. Which of them.
fn judge(folder: &Path, model: &Model, why: &str) -> &'static str {
    let store = match StateStore::start(options(), folder) {
        Ok(store) => store,
        Err(e) => panic!("{why}: {e}"),
    };
    let opened = store.open(&identity(), 0).unwrap();
    if opened.position().is_none() {
        assert!(opened.index.scan(b"", None, 9).unwrap().is_empty(), "{why}");
        return if opened.rebuilt.is_some() { "rebuilt" } else { "empty" };
    }
    assert!(opened.position() <= model.position, "{why}: {:?}", opened.position());
    let mut damage = None;
    for n in 0..KEYS {
        let key = format!("key {n}");
        match opened.index.get(key.as_bytes()) {
            Ok(found) => assert!(found.as_ref() == model.entries.get(key.as_bytes()), "{why}: {key}"),
            Err(e) => damage = Some(e),
        }
    }
    for found in [
        opened.index.scan(b"", None, 9_999).map(|f| f == model.scan(b"", None, 9_999)),
        opened.index.expired(500, 9_999).map(|f| f == model.expired(500, 9_999)),
    ] {
        match found {
            Ok(is_right) => assert!(is_right, "{why}"),
            Err(e) => damage = Some(e),
        }
    }
    let Some(damage) = damage else { return "right" };
    assert!(matches!(&damage, Error::Damaged { .. }), "{why}: {damage}");
    assert_eq!(opened.index.get(b"key 1"), Err(damage.clone()), "{why}");
    assert_eq!(opened.index.apply(&[], Some(99)), Err(damage), "{why}");
    // Begun anew in the same process.
    drop(opened);
    let again = store.open(&identity(), 0).unwrap();
    assert_eq!(again.position(), None, "{why}");
    assert!(again.rebuilt.is_some(), "{why}");
    again.index.apply(&[Chance(1).change_of(b"new")], Some(1)).unwrap();
    again.index.flush().unwrap();
    "noticed"
}

fn main_file(folder: &Folder) -> PathBuf {
    folder.files().into_iter().find(|f| f.extension().is_some_and(|end| end == "db")).unwrap()
}

#[test]
fn a_flipped_bit_never_gives_a_wrong_answer() {
    let whole = Folder::new("whole");
    let model = filled(&whole.0);
    let name = main_file(&whole);
    let bytes = std::fs::read(&name).unwrap();
    let pages = bytes.len() as u64 / 4_096;
    // Of an index, or above others.
    let leads = |page: &u64| bytes.get(*page as usize * 4_096).is_some_and(|kind| [2, 5, 10].contains(kind));
    let index_pages: Vec<u64> = (1..pages).filter(leads).collect();
    let count_of_index = index_pages.len() as u64;
    assert!(pages > 100 && count_of_index > 2, "{pages}, {index_pages:?}");
    let mut chance = Chance(5);
    let mut count = std::collections::BTreeMap::new();
    for round in 0..300u64 {
        let folder = Folder::new("flip");
        std::fs::create_dir_all(&folder.0).unwrap();
        let path = folder.0.join(name.file_name().unwrap());
        // Anywhere, and where SQLite keeps what leads to blocks.
        let at = match index_pages.get((round % 2 * count_of_index + round / 2 % count_of_index) as usize) {
            Some(page) => page * 4_096 + chance.below(4_096),
            None => chance.below(bytes.len() as u64),
        };
        let mut flipped = bytes.clone();
        flipped[at as usize] ^= 1 << chance.below(8);
        std::fs::write(&path, &flipped).unwrap();
        let was = judge(&folder.0, &model, &format!("byte {at} of {}", bytes.len()));
        *count.entry(was).or_insert(0) += 1;
    }
    assert!(count.get("noticed").is_some_and(|n| *n > 80), "{count:?}");
}

#[test]
fn a_file_that_is_cut_empty_gone_or_of_something_else_is_noticed() {
    let whole = Folder::new("whole");
    let model = filled(&whole.0);
    let bytes = std::fs::read(main_file(&whole)).unwrap();
    let mut chance = Chance(6);
    let name = main_file(&whole).file_name().unwrap().to_owned();
    let check = |content: Option<&[u8]>, log: Option<&[u8]>, why: &str| {
        let folder = Folder::new("harm");
        std::fs::create_dir_all(&folder.0).unwrap();
        content.iter().for_each(|content| std::fs::write(folder.0.join(&name), content).unwrap());
        let mut wal = name.clone();
        wal.push("-wal");
        log.iter().for_each(|log| std::fs::write(folder.0.join(wal.clone()), log).unwrap());
        judge(&folder.0, &model, why)
    };
    for n in 0..20 {
        let to = chance.below(bytes.len() as u64) as usize / 4_096 * 4_096 + if n % 2 == 0 { 0 } else { 77 };
        let was = check(bytes.get(..to), None, &format!("cut to {to}"));
        assert!(["rebuilt", "noticed"].contains(&was), "cut to {to}: {was}");
    }
    assert_eq!(check(Some(&[]), None, "empty"), "rebuilt");
    assert_eq!(check(None, None, "gone"), "empty");
    assert_eq!(check(None, Some(&bytes), "only a log"), "rebuilt");
    assert_eq!(check(Some(&vec![7; 50_000]), None, "of something else"), "rebuilt");
    assert_eq!(check(Some(&bytes), Some(&bytes), "with a log of something else"), "right");
}

/// A log that is lost or cut while it was being brought to the database, as no kill alone leaves it.
#[test]
fn a_log_that_is_lost_half_way_never_puts_data_behind_its_position() {
    let folder = Folder::new("half-way");
    let mut model = filled(&folder.0);
    let (db, mut chance) = (main_file(&folder), Chance(2));
    let before = std::fs::read(&db).unwrap();
    let store = start(&folder.0);
    let index = open(&store);
    let changes: Vec<_> = (0..3_000).map(|n| chance.change_of(format!("key {n}").as_bytes())).collect();
    index.apply(&changes, Some(20)).unwrap();
    index.flush().unwrap();
    let after = std::fs::read(&db).unwrap();
    drop((index, store));
    let old = model.clone();
    model.apply(&changes, Some(20));
    let mut read_on = 0;
    for round in 0..30 {
        // Any of the pages are new, as far as a checkpoint came. The second is that of the tasks: a position is written when
        // all else is there, so it is the old one.
        let mut mixed = after.clone();
        // In some rounds one page alone is old.
        let (share, one) = if round % 2 == 0 { (0, round / 2 * 7 + 5) } else { (chance.below(100), 1) };
        for (n, (new, old)) in mixed.chunks_mut(4_096).zip(before.chunks(4_096)).enumerate() {
            if n == 1 || n == one || chance.below(100) < share {
                new.copy_from_slice(old);
            }
        }
        let folder = Folder::new("mixed");
        std::fs::create_dir_all(&folder.0).unwrap();
        std::fs::write(folder.0.join(db.file_name().unwrap()), &mixed).unwrap();
        let store = start(&folder.0);
        let opened = store.open(&identity(), 0).unwrap();
        assert_eq!(opened.position(), Some(12), "round {round}: {:?}", opened.rebuilt);
        for n in 0..KEYS {
            let key = format!("key {n}");
            if let Ok(found) = opened.index.get(key.as_bytes()) {
                let (old, new) = (old.entries.get(key.as_bytes()), model.entries.get(key.as_bytes()));
                assert!(found.as_ref() == old || found.as_ref() == new, "round {round}: {key}");
            }
        }
        // Reading on gives what must be there, or damage.
        if opened.index.apply(&changes, Some(20)).is_ok() && opened.index.flush().is_ok() {
            read_on += 1;
            for n in 0..KEYS {
                let key = format!("key {n}");
                if let Ok(found) = opened.index.get(key.as_bytes()) {
                    assert_eq!(found.as_ref(), model.entries.get(key.as_bytes()), "round {round}: {key}");
                }
            }
        }
    }
    assert!((1..30).contains(&read_on), "{read_on} of 30 could be read on");
}

#[test]
fn what_is_of_another_log_or_stale_is_begun_anew_and_says_so() {
    for (name, log, now_ms, why) in [
        ("log", 78, 0, "it is of StateIdentity"),
        ("stale", 77, STALE_AFTER_MS as i64 + 1, "days away"),
        ("future", 77, -(STALE_AFTER_MS as i64) - 1, "days away"),
    ] {
        let folder = Folder::new(name);
        filled(&folder.0);
        let store = start(&folder.0);
        let opened = store.open(&StateIdentity { log, ..identity() }, now_ms).unwrap();
        assert!(opened.rebuilt.as_ref().is_some_and(|told| told.contains(why)), "{name}: {:?}", opened.rebuilt);
        assert_eq!((opened.position(), opened.index.stats().entries), (None, 0), "{name}");
        assert_eq!((opened.index.get(b"key 1").unwrap(), opened.index.identity().log), (None, log), "{name}");
        opened.index.apply(&[Chance(1).change_of(b"new")], Some(1)).unwrap();
        opened.index.flush().unwrap();
        drop(opened);
        assert_eq!(store.open(&StateIdentity { log, ..identity() }, now_ms).unwrap().position(), Some(1), "{name}");
    }
    let folder = Folder::new("just");
    filled(&folder.0);
    assert_eq!(start(&folder.0).open(&identity(), STALE_AFTER_MS as i64).unwrap().position(), Some(12));
}

/// A task that is read on is not stale, though nothing changes.
#[test]
fn to_reach_a_position_is_kept_without_any_change() {
    let folder = Folder::new("reach");
    filled(&folder.0);
    let late = 2 * STALE_AFTER_MS as i64;
    let store = start(&folder.0);
    let index = open(&store);
    index.reach(12, late).unwrap();
    index.flush().unwrap();
    drop(index);
    let opened = store.open(&identity(), late + 5).unwrap();
    assert_eq!((opened.position(), opened.rebuilt), (Some(12), None));
}

#[test]
fn a_folder_in_use_or_a_task_that_is_open_is_refused() {
    let folder = Folder::new("in-use");
    let store = start(&folder.0);
    let told = StateStore::start(options(), &folder.0).unwrap_err().to_string();
    assert!(told.contains("the folder is in use; end the process"), "{told}");
    let index = open(&store);
    for refused in [store.open(&identity(), 0).map(drop), store.wipe(&identity())] {
        assert!(refused.unwrap_err().to_string().contains("open already"));
    }
    let other = store.open(&StateIdentity { partition: 4, ..identity() }, 0).unwrap();
    drop((index, other, store));
    open(&start(&folder.0));
    let told = StateStore::start(options(), &folder.0.join("lock").join("below")).unwrap_err();
    assert!(matches!(told, Error::Unusable { .. }), "{told}");
}
