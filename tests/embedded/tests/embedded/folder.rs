//! The folder: one process at a time, versions, damage, a full disk.

use crate::support::{Folder, WAIT, in_own_namespace, join, next, produce, send, topic};
use keyrail::broker::embedded::{self, Embedded};
use keyrail::broker::{Broker as _, BrokerErrorKind, Polled};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const RIG: &str = env!("CARGO_BIN_EXE_embedded-rig");

fn holder(dir: &Path) -> Child {
    let mut child =
        Command::new(RIG).arg("hold").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

#[test]
fn a_second_process_is_refused_by_name_and_a_killed_one_leaves_nothing_in_the_way() {
    let folder = Folder::new();
    let mut child = holder(&folder.data());
    let refused = Embedded::open(&folder.options()).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Operator);
    assert!(refused.message.contains(&format!("process {}", child.id())), "{refused}");
    assert!(refused.message.contains("[embedded] dir"), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.data().join("keyrail.sock").exists());
    topic(folder.open().client().unwrap().as_mut(), "t", 1, &[]);
}

#[test]
fn the_folder_is_its_users_alone() {
    let folder = Folder::new();
    let broker = folder.open();
    let mode = |name: &str| std::fs::metadata(folder.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("."), mode("keyrail.db"), mode("keyrail.sock"), mode("keyrail.lock")),
        (0o700, 0o600, 0o600, 0o600)
    );
    assert_eq!(mode("keyrail.db-wal"), 0o600);
    drop(broker);
    assert!(!folder.data().join("keyrail.sock").exists());
}

#[test]
fn a_folder_at_rest_is_opened_and_one_that_is_not_there_is_not_made() {
    let folder = Folder::new();
    let missing = embedded::client(&folder.options()).err().unwrap();
    assert!(missing.message.contains("no embedded broker"), "{missing}");
    assert!(!folder.data().exists());
    topic(folder.open().client().unwrap().as_mut(), "t", 1, &[]);
    let mut client = embedded::client(&folder.options()).unwrap();
    send(client.as_mut(), &[produce("t", "k", "v")]);
    assert_eq!(client.topics().unwrap().len(), 1);
}

/// Changes bytes of the database's file.
pub(crate) fn scribble(folder: &Folder, at: u64, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(folder.data().join("keyrail.db")).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn another_version_another_program_and_damage_are_told_apart() {
    let folder = Folder::new();
    drop(folder.open());
    // Offsets of SQLite's header: 60 user version, 68 application id.
    scribble(&folder, 60, &7_u32.to_be_bytes());
    let told = Embedded::open(&folder.options()).unwrap_err().message;
    assert!(told.contains("format 7") && told.contains("format 1"), "{told}");
    scribble(&folder, 60, &1_u32.to_be_bytes());
    scribble(&folder, 68, b"abcd");
    let told = Embedded::open(&folder.options()).unwrap_err().message;
    assert!(told.contains("another program"), "{told}");
    scribble(&folder, 0, b"no database at all, no database at all");
    let told = Embedded::open(&folder.options()).unwrap_err().message;
    assert!(told.contains("damaged") && told.contains("copy of the folder"), "{told}");
}

#[test]
fn a_database_that_was_just_begun_is_begun_anew() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.data()).unwrap();
    std::fs::write(folder.data().join("keyrail.db"), b"").unwrap();
    topic(folder.open().client().unwrap().as_mut(), "t", 1, &[]);
}

/// A bit flips in a stored record: the partition stops there and says so, and nothing wrong comes out.
#[test]
fn a_flipped_bit_is_never_delivered() {
    let folder = Folder::new();
    let marker = "x".repeat(3000) + "here";
    {
        let broker = folder.open();
        let mut client = broker.client().unwrap();
        topic(client.as_mut(), "t", 1, &[]);
        send(client.as_mut(), &[produce("t", "k", "first")]);
        send(client.as_mut(), &[produce("t", "k", &marker)]);
    }
    let mut bytes = Vec::new();
    std::fs::File::open(folder.data().join("keyrail.db")).unwrap().read_to_end(&mut bytes).unwrap();
    let place = bytes.windows(8).position(|w| w == b"xxxxhere").unwrap();
    scribble(&folder, place as u64, b"y");
    let broker = folder.open();
    let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
    join(consumer.as_mut());
    assert!(matches!(next(consumer.as_mut()), Polled::Record(record) if record.value() == Some(b"first")));
    let Polled::Trouble(error) = next(consumer.as_mut()) else { panic!("a damaged block was passed over") };
    assert_eq!(error.kind, BrokerErrorKind::Operator);
    assert!(error.message.contains("topic \"t\", partition 0") && error.message.contains("checksum"), "{error}");
    // What is written later waits behind it; other partitions and topics go on.
    let mut client = broker.client().unwrap();
    send(client.as_mut(), &[produce("t", "k", "later")]);
    assert!(matches!(consumer.poll(std::time::Duration::from_millis(50)), Polled::Idle));
    assert_eq!(consumer.bounds(crate::support::at(0, 0), WAIT).unwrap().end, 3);
}

#[test]
fn a_path_too_long_for_a_socket_is_told() {
    let folder = Folder::new();
    let mut options = folder.options();
    options.dir = folder.path().join("d".repeat(120));
    let told = Embedded::open(&options).unwrap_err().message;
    assert!(told.contains("the path of the socket") && told.contains("shorter"), "{told}");
}

/// On a disk of 6 MB: what is not written is not acknowledged, all that was is there, and it goes on when there is room.
#[test]
fn a_full_disk_is_told_and_passes() {
    let folder = Folder::new();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = format!("mount -t tmpfs -o size=6m none {0} && exec {RIG} fill {0}", disk.display());
    let Some(output) = in_own_namespace("a_full_disk_is_told_and_passes", &script) else { return };
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(told.contains("refused: ") && told.contains("full"), "{told}");
    assert!(told.contains("refused, a transaction: ") && told.contains("disk is full: nothing was written"), "{told}");
    assert!(told.contains("went on, all that was acknowledged is there"), "{told}");
}
