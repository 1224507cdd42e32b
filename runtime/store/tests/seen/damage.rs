//! Files that are not what was written: noticed, never believed.

use crate::support::*;
use keyrail_store::{Error, Identity, SeenIndex};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SECOND: &str = "000000000002.seen";

/// A folder with three segments.
fn filled(folder: &Path) -> Topic {
    let mut topic = Topic::default();
    let index = open(&store(), folder, 0);
    for n in 0..3u64 {
        let ids = (n * 3_000..(n + 1) * 3_000).map(id).collect();
        insert(&index, &topic.add(ids, 1_000_000 + n as i64 * 11_000));
        index.flush().unwrap();
    }
    assert_eq!(index.stats().segments, 3);
    topic
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let mut files: Vec<_> = files.filter(|f| !f.ends_with("lock")).collect();
    files.sort();
    files
}

/// Opened after damage: either nothing counts, or every answer is right or an error; then nothing counts the next time.
/// Whether it was noticed at once.
fn judge(folder: &Path, topic: &Topic, why: &str) -> bool {
    let store = store();
    let opened = store.open(folder, &identity(), 0).unwrap();
    if opened.rebuilt.is_some() {
        assert_eq!((opened.position(), opened.index.stats().ids), (None, 0), "{why}");
        assert!(!opened.index.contains(&id(1), i64::MIN).unwrap(), "{why}");
        return true;
    }
    let mut damage = None;
    for id in topic.times.keys() {
        match opened.index.contains(id, topic.oldest_ms()) {
            Ok(found) => assert!(found && damage.is_none(), "{why}: {id:?} is denied, or answered after damage"),
            Err(e) => damage = Some(e),
        }
    }
    let damage = damage.unwrap_or_else(|| panic!("{why}: not noticed"));
    assert!(matches!(&damage, Error::Damaged { .. }) && damage.to_string().contains("checksum"), "{why}: {damage}");
    assert_eq!(opened.index.insert(&[id(1)], 0, 9), Err(damage.clone()), "{why}");
    assert_eq!(opened.index.flush(), Err(damage), "{why}");
    drop(opened);
    let again = store.open(folder, &identity(), 0).unwrap();
    assert_eq!((again.position(), files(folder).len()), (None, 0), "{why}");
    false
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let mut chance = Chance(5);
    let (mut at_once, mut later) = (0, 0);
    for round in 0..120 {
        let folder = Folder::new("flip");
        let topic = filled(&folder.0);
        let files = files(&folder.0);
        let path = &files[round % files.len()];
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        // Every region in turn: a tenth of the file each.
        let len = file.metadata().unwrap().len();
        let at = (len * (round as u64 / 4 % 10) / 10 + chance.below(len / 10)).min(len - 1);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << chance.below(8))], at).unwrap();
        if judge(&folder.0, &topic, &format!("{} at {at} of {len}", path.display())) {
            at_once += 1
        } else {
            later += 1
        }
    }
    assert!(at_once > 30 && later > 30, "{at_once} at once, {later} when the block was read");
}

#[test]
fn a_file_that_is_cut_grown_gone_empty_or_in_anothers_place_is_noticed_at_once() {
    let mut chance = Chance(6);
    type Harm = fn(&Path, u64);
    let cut: Harm = |path, to| OpenOptions::new().write(true).open(path).unwrap().set_len(to).unwrap();
    let grown: Harm = |path, to| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() + to + 1).unwrap();
    };
    let empty: Harm = |path, _| drop(std::fs::File::create(path).unwrap());
    let gone: Harm = |path, _| std::fs::remove_file(path).unwrap();
    let swapped: Harm = |path, _| assert!(std::fs::copy(path, path.parent().unwrap().join(SECOND)).is_ok());
    for (name, harm) in [("cut", cut), ("grown", grown), ("empty", empty), ("gone", gone), ("swapped", swapped)] {
        for n in 0..4 {
            let folder = Folder::new("harm");
            let topic = filled(&folder.0);
            let path = files(&folder.0)[n].clone();
            let is_manifest = path.ends_with("manifest");
            let len = std::fs::metadata(&path).unwrap().len();
            if name == "swapped" && (path.ends_with(SECOND) || is_manifest) {
                continue;
            }
            harm(&path, chance.below(len));
            if name == "gone" && is_manifest {
                assert_eq!(store().open(&folder.0, &identity(), 0).unwrap().position(), None);
                assert_eq!(files(&folder.0).len(), 0, "what no manifest names is deleted");
            } else {
                assert!(judge(&folder.0, &topic, &format!("{name}: {}", path.display())), "{name}");
            }
        }
    }
}

#[test]
fn what_is_of_something_else_is_wiped_and_files_of_others_stay() {
    let of = identity();
    let others = [
        Identity { group: "other".into(), ..of.clone() },
        Identity { topic: "other".into(), ..of.clone() },
        Identity { partition: 4, ..of.clone() },
        Identity { log: 78, ..of.clone() },
        Identity { window_ms: WINDOW_MS + 1, ..of },
    ];
    for other in others {
        let folder = Folder::new("foreign");
        filled(&folder.0);
        std::fs::write(folder.0.join("notes.txt"), "mine").unwrap();
        let opened = store().open(&folder.0, &other, 0).unwrap();
        assert!(opened.rebuilt.as_ref().is_some_and(|why| why.contains("orders")), "{:?}", opened.rebuilt);
        assert_eq!((opened.position(), opened.index.stats().ids), (None, 0));
        assert_eq!(opened.index.identity(), other);
        assert_eq!(files(&folder.0), [folder.0.join("notes.txt")]);
    }
}

#[test]
fn a_folder_that_was_deleted_or_wiped_is_begun_anew() {
    let (folder, store) = (Folder::new("deleted"), store());
    let topic = filled(&folder.0);
    std::fs::remove_dir_all(&folder.0).unwrap();
    assert_eq!(open(&store, &folder.0, 0).position(), None);
    std::fs::remove_dir_all(&folder.0).unwrap();
    filled(&folder.0);
    store.wipe(&folder.0).unwrap();
    let index = open(&store, &folder.0, 0);
    assert_eq!((index.position(), files(&folder.0).len()), (None, 0));
    topic.records.iter().for_each(|record| insert(&index, record));
    topic.check(&index, "read again");
}

#[test]
fn a_folder_in_use_is_refused_and_one_that_cannot_be_made_says_why() {
    let (folder, store) = (Folder::new("in-use"), store());
    let index = open(&store, &folder.0, 0);
    for refused in [store.open(&folder.0, &identity(), 0).map(drop), store.wipe(&folder.0)] {
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("lock: the folder is in use; end the process"), "{told}");
    }
    drop(index);
    drop(open(&store, &folder.0, 0));
    let below = folder.0.join("lock").join("task");
    let told = store.open(&below, &identity(), 0).unwrap_err();
    assert!(matches!(&told, Error::Unusable { place, .. } if *place == below), "{told}");
}
