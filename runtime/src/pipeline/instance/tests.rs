#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A folder that is removed when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        Self(std::env::temp_dir().join(format!("keyrail-instance-{}-{number}", std::process::id())))
    }

    fn take(&self) -> Instance {
        Instance::take(&self.0).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(FOLDER).join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn each_has_its_own_and_finds_it_again() {
    let folder = Folder::new();
    let (one, two, three) = (folder.take(), folder.take(), folder.take());
    let ids: Vec<String> = [&one, &two, &three].iter().map(|instance| instance.id().to_owned()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())), "{ids:?}");
    // The one in the midst ends, and starts again.
    drop(two);
    let two = folder.take();
    assert_eq!(two.id(), ids[1]);
    drop((one, two, three));
    let again = [folder.take(), folder.take(), folder.take()];
    assert_eq!(again.each_ref().map(|instance| instance.id().to_owned()).as_slice(), ids);
    let names: BTreeSet<_> = fs::read_dir(folder.0.join(FOLDER)).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["0", "1", "2", "lock"]);
}

#[test]
fn many_at_once_never_share_one() {
    const THREADS: usize = 24;
    let folder = Folder::new();
    let taken: Vec<Instance> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| folder.take())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let ids: BTreeSet<&str> = taken.iter().map(Instance::id).collect();
    assert_eq!(ids.len(), THREADS);
    assert!(folder.file("23").exists() && !folder.file("24").exists());
}

#[test]
fn a_damaged_file_is_made_anew() {
    let folder = Folder::new();
    let before = folder.take().id().to_owned();
    for damage in
        ["", "\n", "0123", "0123456789abcdef", "0123456789abcdef\n\n", "0123456789ABCDEF\n", "../../../etc/pas\n"]
    {
        fs::write(folder.file("0"), damage).unwrap();
        let new = folder.take();
        assert_ne!(new.id(), before);
        assert_eq!(fs::read_to_string(folder.file("0")).unwrap(), format!("{}\n", new.id()), "{damage:?}");
        // And it is held as any other.
        assert_ne!(folder.take().id(), new.id(), "{damage:?}");
    }
    fs::write(folder.file("0"), "0123456789abcdef\n").unwrap();
    assert_eq!(folder.take().id(), "0123456789abcdef");
    // What a crash left behind is in nobody's way.
    fs::write(folder.file("new"), "half").unwrap();
    let (_zero, _one, two) = (folder.take(), folder.take(), folder.take());
    assert_eq!(fs::read_to_string(folder.file("2")).unwrap(), format!("{}\n", two.id()));
}

#[test]
fn the_files_are_their_users_alone() {
    let folder = Folder::new();
    let _held = folder.take();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(folder.0.join(FOLDER)), mode(folder.file("0")), mode(folder.file("lock"))), (0o700, 0o600, 0o600));
}

#[test]
fn a_place_that_does_not_do_is_told_with_its_cure() {
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join("file"), "").unwrap();
    let told = Instance::take(&folder.0.join("file")).unwrap_err();
    assert!(!told.passes && told.message.contains("file/instances: no name for this process: "), "{told}");
    assert!(told.message.contains("set store.dir to a folder that this user can write"), "{told}");
    assert!(matches!(Trouble::from(told), Trouble::Operator(_)));
    // Looked at beforehand, it is told as well.
    for below in ["file", "file/state"] {
        let told = Instance::check(&folder.0.join(below)).unwrap_err();
        assert!(!told.passes && told.message.contains("set store.dir to a folder"), "{told}");
    }
    let told = |error: io::Error| NoInstance::of(Path::new("state/instances/0"), &error);
    let full = told(io::Error::from_raw_os_error(libc::ENOSPC));
    assert!(full.passes && full.message.contains("make room"), "{full}");
    assert!(matches!(Trouble::from(full), Trouble::Again(_)));
    for code in [libc::EROFS, libc::EACCES] {
        let told = told(io::Error::from_raw_os_error(code));
        assert!(!told.passes && told.message.starts_with("state/instances/0: ") && told.message.contains("store.dir"));
    }
}

#[test]
fn nothing_is_taken_before_it_is_asked_for_and_then_once() {
    let folder = Folder::new();
    let naming = Naming::new(&folder.0);
    assert_eq!(Instance::check(&folder.0.join("deeper")), Ok(()));
    assert!(!folder.0.exists());
    let (one, other) = (naming.instance().unwrap(), naming.clone().instance().unwrap());
    assert!(Arc::ptr_eq(&one, &other));
    drop((one, other));
    assert_ne!(folder.take().id(), naming.instance().unwrap().id());
    // A place that was not fit is asked again.
    let late = Folder::new();
    fs::write(&late.0, "").unwrap();
    let naming = Naming::new(&late.0);
    naming.instance().unwrap_err();
    fs::remove_file(&late.0).unwrap();
    naming.instance().unwrap();
}

#[test]
fn lanes_are_hashed_alike_for_as_long_as_the_folder_is_there() {
    let folder = Folder::new();
    let drawn = Naming::new(&folder.0).lanes().unwrap();
    let naming = Naming::new(&folder.0);
    assert_eq!((naming.lanes(), naming.lanes()), (Ok(drawn), Ok(drawn)));
    let file = folder.0.join(LANES).join(naming.instance().unwrap().id());
    drop(naming);
    fs::write(&file, "no such thing").unwrap();
    let naming = Naming::new(&folder.0);
    let anew = naming.lanes().unwrap();
    assert_ne!(anew, drawn, "a damaged one is drawn anew");
    drop(naming);
    assert_eq!(Naming::new(&folder.0).lanes(), Ok(anew));
}

#[test]
fn pipelines_of_a_process_never_share_a_transactional_id() {
    let folder = Folder::new();
    let instance = folder.take();
    let id = instance.id();
    assert_eq!(instance.transactional_id("pay", "pay"), format!("pay-{id}"));
    let all = [("a", "a"), ("a", "b"), ("a-b", "a-b"), ("a", "a-b"), ("a-b", "a"), ("a-b", "b")];
    let ids: BTreeSet<String> = all.iter().map(|(group, name)| instance.transactional_id(group, name)).collect();
    assert_eq!(ids.len(), all.len(), "{ids:?}");
    assert!(all.iter().all(|(group, name)| instance.transactional_id(group, name).starts_with(group)));
}
