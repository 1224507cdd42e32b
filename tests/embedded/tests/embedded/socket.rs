//! Commands beside the process that holds the folder.

use crate::support::{Folder, WAIT, all, at, deliver, drain, join, next, produce, send, text, topic};
use keyrail::broker::client::Client;
use keyrail::broker::embedded;
use keyrail::broker::{Broker as _, OffsetCommit, Polled, Produce, Refusal};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The folder is held in this process already, so this goes over the socket.
fn beside(folder: &Folder) -> Box<dyn Client> {
    embedded::client(&folder.options()).unwrap()
}

#[test]
fn a_command_beside_the_process_does_all_that_one_inside_does() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = beside(&folder);
    topic(client.as_mut(), "t", 2, &[("retention.ms", "-1")]);
    assert_eq!(client.topics().unwrap(), broker.client().unwrap().topics().unwrap());
    assert_eq!(client.settings("t").unwrap(), broker.client().unwrap().settings("t").unwrap());
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"\xff", None), (b"h", Some(b"\x00"))];
    let sent = [
        Produce { key: None, value: None, timestamp_ms: Some(5), partition: Some(1), headers: &headers, topic: "t" },
        Produce { partition: Some(1), ..produce("t", "k", "now") },
    ];
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    send(client.as_mut(), &sent);
    let read = all(client.as_mut(), "t", 2);
    assert_eq!(read, all(broker.client().unwrap().as_mut(), "t", 2));
    assert_eq!((read[0].key(), read[0].value(), read[0].timestamp_ms), (None, None, 5));
    assert_eq!(read[0].headers().collect::<Vec<_>>(), headers);
    assert!(read[1].timestamp_ms >= before);
    assert_eq!(client.offsets_at("t", &[0, 1], before).unwrap(), [0, 1]);
    let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
    join(consumer.as_mut());
    consumer.commits().now(&[OffsetCommit { at: at(0, 1), offset: 1, metadata: "m".to_owned() }], WAIT).unwrap();
    assert_eq!(client.groups().unwrap(), ["g"]);
    let committed = client.committed("g", &["t".to_owned()], &[at(0, 0), at(0, 1)]).unwrap();
    assert_eq!((committed[0].offset, committed[1].offset, committed[1].metadata.as_str()), (None, Some(1), "m"));
    // What came over the socket reaches the pipelines at once.
    assert!(matches!(next(consumer.as_mut()), Polled::Record(record) if record.at == at(0, 1)));
    let refused = client.produce(&[produce("nowhere", "k", "v"), produce("t", "k", "v")]).unwrap();
    assert!(matches!(&refused[0], Err(Refusal::Blocked(why)) if why.contains("nowhere")));
    assert_eq!(refused[1], Ok(()));
    assert!(client.bounds("nowhere", &[0]).unwrap_err().message.contains("no topic"));
}

#[test]
fn tail_follows_and_many_records_go_through() {
    let folder = Folder::new();
    let broker = folder.open();
    topic(broker.client().unwrap().as_mut(), "t", 4, &[]);
    let mut client = beside(&folder);
    let starts: Vec<_> = (0..4).map(|n| (at(0, n), 0)).collect();
    let mut tail = client.read(&["t".to_owned()], &starts).unwrap();
    let values: Vec<String> = (0..20_000).map(|n| format!("{n:0>90}")).collect();
    let records: Vec<_> = values.iter().map(|v| produce("t", v, v)).collect();
    let writer = std::thread::spawn({
        let broker = broker.clone();
        move || {
            std::thread::sleep(Duration::from_millis(200));
            deliver(&broker, &[produce("t", "k", "first")])
        }
    });
    let (mut read, began) = (Vec::new(), Instant::now());
    tail.next(Duration::from_secs(20), &mut read).unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(read.iter().map(|r| text(r.value())).collect::<Vec<_>>(), ["first"]);
    assert_eq!(writer.join().unwrap(), [Ok(())]);
    send(client.as_mut(), &records);
    read.extend(drain(tail.as_mut()));
    assert_eq!(read.len(), 20_001);
    let mut found: Vec<&str> = read[1..].iter().map(|r| text(r.value())).collect();
    found.sort_unstable();
    assert!(found.iter().zip(&values).all(|(found, sent)| found == sent));
}

#[test]
fn when_the_process_ends_its_clients_are_told_and_the_next_holds_the_folder() {
    let folder = Folder::new();
    let broker = folder.open();
    topic(broker.client().unwrap().as_mut(), "t", 1, &[]);
    let mut client = beside(&folder);
    let mut tail = client.read(&["t".to_owned()], &[(at(0, 0), 0)]).unwrap();
    let waiting = std::thread::spawn(move || {
        let mut none = Vec::new();
        while tail.next(Duration::from_secs(20), &mut none).is_ok() {}
    });
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    drop(broker);
    assert!(began.elapsed() < WAIT, "closing took {:?}", began.elapsed());
    waiting.join().unwrap();
    assert!(client.topics().unwrap_err().message.contains("holds the folder"));
    assert_eq!(beside(&folder).topics().unwrap().len(), 1);
}

#[test]
fn strangers_on_the_socket_are_refused_and_harm_nobody() {
    let folder = Folder::new();
    let broker = folder.open();
    topic(broker.client().unwrap().as_mut(), "t", 1, &[]);
    let path = folder.data().join("keyrail.sock");
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        // It may have hung up before all was said.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    };
    let frame = |head: &str, body: &[u8]| {
        let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    assert_eq!(say(b"GET / HTTP/1.1\r\n\r\n"), "");
    assert_eq!(say(&[0xff; 64]), "");
    assert_eq!(say(&frame(r#"{"ask":"topics"}"#, b"")), "");
    let other = say(&frame(r#"{"ask":"hello","protocol":99}"#, b""));
    assert!(other.contains("protocol 3") && other.contains("same version"), "{other}");
    let hello = frame(r#"{"ask":"hello","protocol":3}"#, b"");
    let produce = frame(r#"{"ask":"produce","topics":["t"],"to":[[0,null]]}"#, b"no block");
    let told = say(&[hello.clone(), produce].concat());
    assert!(told.contains("can't be read"), "{told}");
    let fetch = frame(r#"{"ask":"fetch","topics":["t"],"from":[[[7,0],0]],"wait_ms":0}"#, b"");
    let told = say(&[hello.clone(), fetch].concat());
    assert!(told.contains("none of the list"), "{told}");
    for unclaimed in [r#"{"ask":"stage","topics":["t"],"to":[]}"#, r#"{"ask":"end","offsets":[]}"#] {
        let told = say(&[hello.clone(), frame(unclaimed, b"")].concat());
        assert!(told.contains("without a claim on its id"), "{told}");
    }
    // Half a frame, and then nothing: the others go on.
    let mut half = UnixStream::connect(&path).unwrap();
    half.write_all(&hello[..7]).unwrap();
    assert_eq!(beside(&folder).topics().unwrap().len(), 1);
}

#[test]
fn more_connections_than_it_takes_are_told_to_come_later() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut clients: Vec<Box<dyn Client>> = (0..64).map(|_| beside(&folder)).collect();
    let refused = embedded::client(&folder.options()).err().unwrap();
    assert!(refused.message.contains("64 commands are connected"), "{refused}");
    clients.truncate(10);
    assert!(beside(&folder).topics().unwrap().is_empty());
    drop(broker);
}
