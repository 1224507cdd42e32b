//! A handler that asks a server for each of its messages: how many requests are under way, and what is reached of what keys and
//! waiting allow.

use crate::figures::{Amount, megabytes};
use crate::report::{Figure, Report, Target};
use crate::rig::{Rig, Shape, Who};
use crate::topics::{Watch, chance, fill};
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KEYS: u64 = 10_000;
/// `limits.requests`, as it is by default.
const AT_ONCE: f64 = 1024.0;
/// How long the server takes, and messages of such a run.
const WAITS: [(Duration, u64); 2] = [(Duration::from_millis(10), 150_000), (Duration::from_millis(100), 100_000)];
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server in this process, on a thread of its own.
struct Server {
    at: SocketAddr,
    at_once: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Server {
    fn start(wait: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let server = Self { at: listener.local_addr()?, at_once: Arc::default(), most: Arc::default() };
        let (at_once, most) = (server.at_once.clone(), server.most.clone());
        std::thread::spawn(move || {
            runtime.block_on(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (at_once, most) = (at_once.clone(), most.clone());
                    tokio::spawn(async move {
                        // It ends when the client hangs up.
                        drop(serve(stream, wait, &at_once, &most).await);
                    });
                }
            });
        });
        Ok(server)
    }
}

/// Requests have no body here.
async fn serve(mut stream: TcpStream, wait: Duration, at_once: &AtomicU64, most: &AtomicU64) -> std::io::Result<()> {
    let (mut buffer, mut held) = ([0; 4096], 0);
    loop {
        let count = stream.read(&mut buffer[held..]).await?;
        if count == 0 {
            return Ok(());
        }
        held += count;
        if !buffer[..held].ends_with(b"\r\n\r\n") {
            continue;
        }
        held = 0;
        most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        tokio::time::sleep(wait).await;
        at_once.fetch_sub(1, Ordering::Relaxed);
        stream.write_all(ANSWER).await?;
    }
}

pub(crate) fn http(rig: &Rig, amount: Amount, report: &mut Report) -> Result<()> {
    for (wait, messages) in WAITS {
        let messages = if amount.pairs <= 2 { messages / 2 } else { messages };
        report.doing(&format!("{messages} messages of {KEYS} keys, a request each, which is answered after {wait:?}"));
        one(rig, wait, messages, report)?;
    }
    Ok(())
}

fn one(rig: &Rig, wait: Duration, messages: u64, report: &mut Report) -> Result<()> {
    let server = Server::start(wait)?;
    let (from, to) = (rig.topic("asks", &[])?, rig.topic("asked", &[])?);
    let ask = format!("GET http://{}/", server.at);
    fill(&rig.bootstrap, &from, messages, |n| (format!("key-{}", chance(n) % KEYS), ask.clone().into_bytes()))?;
    let manifest = format!("[capabilities]\nhttp = [\"{}\"]", server.at);
    let shape = Shape { guest: "caller", manifest: &manifest, exactly_once: true, ..Shape::default() };
    let watch = Watch::new(&rig.bootstrap, &to)?;
    let mut process = rig.start(Who::Keyrail, &from, &to, &shape)?;
    let first = rig.wait(&mut process, &watch, messages / 5)?;
    let (began, cpu) = (Instant::now(), process.cpu()?);
    let last = rig.wait(&mut process, &watch, messages / 10 * 9)?;
    let (took, cpu) = (began.elapsed().as_secs_f64(), process.cpu()?.saturating_sub(cpu).as_secs_f64());
    ensure!(last > first, "the run was over between two looks: measure more messages");
    rig.wait(&mut process, &watch, messages)?;
    let peak = process.memory("VmHWM")?;
    process.stop()?;
    let done = (last - first) as f64;
    let named = |what: &str| format!("{what}, answers after {wait:?}");
    let under_way = done / took * wait.as_secs_f64();
    let most = server.most.load(Ordering::Relaxed) as f64;
    report.add(Figure::of(&named("requests a second"), "", &[done / took]));
    report.add(Figure::of(&named("most under way"), "", &[most]).target(Target::AtLeast(1_000.0)));
    let share = Figure::of(&named("share of what waiting allows"), "", &[under_way / AT_ONCE]);
    report.add(share.target(Target::AtLeast(0.8)));
    report.add(Figure::of(&named("CPU a request"), "us", &[cpu / done * 1e6]));
    report.add(Figure::of(&named("peak memory"), "MB", &[megabytes(peak)]).target(Target::AtMost(500.0)));
    rig.retire(&from)?;
    rig.retire(&to).context("the topics of HTTP")
}
