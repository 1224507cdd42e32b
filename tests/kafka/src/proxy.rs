//! A proxy between clients and a broker, for connections that are slow, silent in one direction, or break, and for
//! requests whose answer never comes.

use crate::frames::{Fault, Frames, Rules, answer, request};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pieces on their way in one direction of a connection; beyond that the sender feels it.
const PIECES: usize = 64;
/// Who waits on a state looks at it anew at the latest after this.
const LOOK: Duration = Duration::from_millis(100);
/// How long a broker may take to read the request of a connection whose client is gone.
const LINGER: Duration = Duration::from_secs(1);

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the clients to the broker.
    ToBroker,
    /// From the broker to the clients.
    ToClients,
}

/// A listening proxy; ends, with all its connections, on drop.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    latency: Duration,
    stalled: [bool; 2],
    links: Vec<Arc<Link>>,
    rules: Rules,
    over: bool,
}

/// One connection.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    broker: TcpStream,
    over: AtomicBool,
    /// The client is gone, and the broker shall not know yet.
    deaf: AtomicBool,
    /// What becomes of the answers to these requests.
    marked: Mutex<BTreeMap<i32, Fault>>,
}

impl Link {
    fn marked(&self) -> MutexGuard<'_, BTreeMap<i32, Fault>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        self.over.store(true, SeqCst);
        // An error means that it is closed already.
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.broker.shutdown(Shutdown::Both));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to the broker's.
    pub(crate) fn start(broker: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the proxy")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let of_acceptor = shared.clone();
        let acceptor = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            for client in listener.incoming() {
                if of_acceptor.state().over {
                    return;
                }
                // A broker that is away, or a client that is gone again: both see a closed connection.
                drop(client.map_err(Into::into).and_then(|client| open(&of_acceptor, client, broker)));
            }
        })?;
        Ok(Self { port, shared, acceptor: Some(acceptor) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on bytes take this long, each way.
    pub fn delay(&self, latency: Duration) {
        self.shared.state().latency = latency;
    }

    /// Holds back what goes that way, on connections that are there and on new ones, or lets it go again.
    pub fn stall(&self, direction: Direction, stalled: bool) {
        self.shared.state().stalled[direction as usize] = stalled;
        self.shared.changed.notify_all();
    }

    /// The next `times` requests of this kind ([`crate::api`]) meet this fault, on all connections together.
    pub fn fault(&self, api_key: i16, fault: Fault, times: u32) {
        self.shared.state().rules.set(api_key, fault, times);
    }

    /// Requests meet no fault any more.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
    }

    /// How many requests of this kind came by.
    #[must_use]
    pub fn seen(&self, api_key: i16) -> u64 {
        self.shared.state().rules.seen(api_key)
    }

    /// How many of them met a fault.
    #[must_use]
    pub fn met(&self, api_key: i16) -> u64 {
        self.shared.state().rules.met(api_key)
    }

    /// Breaks all connections, and forgets what was on its way; new ones are taken.
    pub fn cut(&self) {
        self.shared.state().links.drain(..).for_each(|link| link.cut());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.cut();
        // Wakes the acceptor, which then sees that it is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn open(shared: &Arc<Shared>, client: TcpStream, port: u16) -> Result<()> {
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let ends = [(client.try_clone()?, broker.try_clone()?), (broker.try_clone()?, client.try_clone()?)];
    let (over, deaf, marked) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
    let link = Arc::new(Link { client, broker, over, deaf, marked });
    let mut state = shared.state();
    state.links.retain(|l| !l.over.load(SeqCst));
    state.links.push(link.clone());
    drop(state);
    for (direction, (from, to)) in [Direction::ToBroker, Direction::ToClients].into_iter().zip(ends) {
        let (pieces, coming) = sync_channel(PIECES);
        let (of_reader, of_writer, of_both) = (link.clone(), link.clone(), shared.clone());
        let reads = of_both.clone();
        std::thread::Builder::new().name("proxy-read".to_owned()).spawn(move || {
            read(from, &pieces, direction, &reads, &of_reader);
            // The writer ends once it has passed on what is on its way.
            drop(pieces);
        })?;
        std::thread::Builder::new().name("proxy-write".to_owned()).spawn(move || {
            write(to, &coming, direction, &of_both, &of_writer);
            if of_writer.deaf.load(SeqCst) {
                std::thread::sleep(LINGER);
            }
            of_writer.cut();
        })?;
    }
    Ok(())
}

type Piece = (Instant, Vec<u8>);

fn read(mut from: TcpStream, pieces: &SyncSender<Piece>, direction: Direction, shared: &Shared, link: &Link) {
    let mut buffer = vec![0; 64 * 1024];
    let mut frames = Frames::default();
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        frames.push(&buffer[..length]);
        while let Some(frame) = frames.next() {
            let due = Instant::now() + shared.state().latency;
            let fault = match direction {
                Direction::ToBroker => on_request(&frame, shared, link),
                Direction::ToClients => answer(&frame).and_then(|id| link.marked().remove(&id)),
            };
            let due = match fault {
                None => due,
                Some(Fault::Mute) => continue,
                Some(Fault::Cut) => return link.cut(),
                Some(Fault::Slow(more) | Fault::Late(more)) => due + more,
            };
            // The other end may be gone, and with it who would take the piece.
            if pieces.send((due, frame)).is_err() || direction == Direction::ToBroker && link.deaf.load(SeqCst) {
                return;
            }
        }
    }
}

/// What becomes of the request itself; its answer is marked.
fn on_request(frame: &[u8], shared: &Shared, link: &Link) -> Option<Fault> {
    let (key, id) = request(frame)?;
    let fault = shared.state().rules.meet(key)?;
    if let Fault::Late(_) = fault {
        link.deaf.store(true, SeqCst);
        // An error means that it is closed already.
        drop(link.client.shutdown(Shutdown::Both));
        return Some(fault);
    }
    link.marked().insert(id, fault);
    None
}

/// Until the reader has seen the end, or the link is cut.
fn write(mut to: TcpStream, coming: &Receiver<Piece>, direction: Direction, shared: &Shared, link: &Link) {
    for (due, bytes) in coming {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut state = shared.state();
        while state.stalled[direction as usize] && !link.over.load(SeqCst) {
            state = shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let unheard = direction == Direction::ToClients && link.deaf.load(SeqCst);
        if link.over.load(SeqCst) || (!unheard && to.write_all(&bytes).is_err()) {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU8;

    /// A server that sends back what it gets.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut from = stream.try_clone().unwrap();
                    drop(std::io::copy(&mut from, &mut &stream));
                });
            }
        });
        port
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    /// What comes back of four bytes, and how long they took.
    fn ask(stream: &mut TcpStream, bytes: &[u8; 4]) -> (std::io::Result<[u8; 4]>, Duration) {
        let (began, mut back) = (Instant::now(), [0; 4]);
        let got = stream.write_all(bytes).and_then(|()| stream.read_exact(&mut back));
        (got.map(|()| back), began.elapsed())
    }

    #[test]
    fn bytes_pass_late_or_not_at_all_or_the_connection_breaks() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        assert_eq!(&ask(&mut stream, b"fast").0.unwrap(), b"fast");
        proxy.delay(Duration::from_millis(60));
        let (got, took) = ask(&mut stream, b"slow");
        assert_eq!(&got.unwrap(), b"slow");
        assert!(took >= Duration::from_millis(120), "{took:?}");
        proxy.delay(Duration::ZERO);
        for direction in [Direction::ToBroker, Direction::ToClients] {
            proxy.stall(direction, true);
            assert!(ask(&mut stream, b"held").0.is_err(), "{direction:?}");
            proxy.stall(direction, false);
            let mut late = [0; 4];
            stream.read_exact(&mut late).unwrap();
            assert_eq!(&late, b"held", "{direction:?}: nothing is lost");
        }
        proxy.cut();
        assert!(ask(&mut stream, b"gone").0.is_err());
        assert_eq!(&ask(&mut connect(&proxy), b"anew").0.unwrap(), b"anew");
    }

    /// A broker that answers each request with its correlation id and how many it had before.
    fn broker() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let had = Arc::new(AtomicU8::new(0));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let had = had.clone();
                std::thread::spawn(move || {
                    let mut request = [0; 12];
                    while stream.read_exact(&mut request).is_ok() {
                        let answer = [&[0, 0, 0, 5], &request[8..], &[had.fetch_add(1, SeqCst)]].concat();
                        drop(stream.write_all(&answer));
                    }
                });
            }
        });
        port
    }

    /// Asks for `key` under this id. Gives what came back: the id, and how many requests the broker had before.
    fn request(stream: &mut TcpStream, key: u8, id: u8) -> std::io::Result<(u8, u8)> {
        let mut back = [0; 9];
        stream.write_all(&[0, 0, 0, 8, 0, key, 0, 1, 0, 0, 0, id])?;
        stream.read_exact(&mut back).map(|()| (back[7], back[8]))
    }

    #[test]
    fn one_kind_of_request_meets_a_fault_and_the_others_pass() {
        let proxy = Proxy::start(broker()).unwrap();
        let mut stream = connect(&proxy);
        assert_eq!(request(&mut stream, 26, 1).unwrap(), (1, 0));
        proxy.fault(26, Fault::Mute, 1);
        assert_eq!(request(&mut stream, 25, 2).unwrap(), (2, 1));
        assert!(request(&mut stream, 26, 3).is_err());
        assert_eq!(request(&mut stream, 26, 4).unwrap(), (4, 3), "the broker had it, and the connection stays");
        let long = Duration::from_millis(100);
        proxy.fault(26, Fault::Slow(long), 1);
        let began = Instant::now();
        assert_eq!(request(&mut stream, 26, 5).unwrap(), (5, 4));
        assert!(began.elapsed() >= long);
        proxy.fault(26, Fault::Cut, 1);
        assert!(request(&mut stream, 26, 6).is_err());
        assert!(request(&mut stream, 25, 7).is_err(), "the connection is gone");
        let mut stream = connect(&proxy);
        assert_eq!(request(&mut stream, 25, 8).unwrap(), (8, 6), "and the broker had the request");
        proxy.fault(26, Fault::Late(long), 1);
        assert!(request(&mut stream, 26, 9).is_err());
        let mut stream = connect(&proxy);
        assert_eq!(request(&mut stream, 26, 10).unwrap(), (10, 7), "the broker has not seen it yet");
        std::thread::sleep(long * 2);
        assert_eq!(request(&mut stream, 26, 11).unwrap(), (11, 9), "now it has");
        proxy.fault(26, Fault::Cut, 1);
        proxy.heal();
        assert_eq!(request(&mut stream, 26, 12).unwrap(), (12, 10));
        assert_eq!((proxy.met(26), proxy.met(25), proxy.seen(25)), (4, 0, 2));
    }
}
