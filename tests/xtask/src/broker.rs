//! `cargo xtask kafka`: one Kafka broker on loopback for trying things by hand. The tests start their own.

use crate::place::{Place, make, read, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use crate::setup;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEFAULT_PORT: u16 = 9092;
const UP_LIMIT: Duration = Duration::from_secs(90);
const DOWN_LIMIT: Duration = Duration::from_secs(30);
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
/// A cluster's name; any will do, as long as it stays the same.
const CLUSTER: &str = "a2V5cmFpbC1ieS1oYW5kLQ";

pub(crate) fn command(place: &Place, args: &[String]) -> Result<(), String> {
    let port = match args.get(1).map(String::as_str) {
        None => DEFAULT_PORT,
        Some("--port") => args.get(2).and_then(|p| p.parse().ok()).ok_or("--port needs a number from 1 to 65535")?,
        Some(other) => return Err(format!("kafka: unknown argument {other}; known: --port N")),
    };
    let broker = Broker { folder: place.target.join("kafka/by-hand"), port };
    match args.first().map(String::as_str) {
        Some("start") => broker.start(place),
        Some("stop") => broker.stop(),
        Some("wipe") => broker.stop().and_then(|()| remove(&broker.folder)),
        _ => Err("kafka: say start, stop or wipe (stop and delete its data); start takes --port N".to_owned()),
    }
}

struct Broker {
    folder: PathBuf,
    port: u16,
}

impl Broker {
    fn start(&self, place: &Place) -> Result<(), String> {
        if let Some(pid) = self.running() {
            return Err(format!("already running as process {pid}; cargo xtask kafka stop ends it"));
        }
        let (java, home) = setup::broker(place)?;
        let logs = self.folder.join("logs");
        make(&logs)?;
        let settings = self.folder.join("server.properties");
        write(&settings, &self.settings())?;
        let java = |class: &str| {
            let mut command = Command::new(&java);
            command.args(["-Xmx512m", "-cp"]).arg(home.join("libs/*"));
            command.arg(format!("-Dlog4j2.configurationFile={}", home.join("config/log4j2.properties").display()));
            command.arg(format!("-Dkafka.logs.dir={}", logs.display())).arg(class);
            command
        };
        if !self.folder.join("data/meta.properties").is_file() {
            say("making the broker's data folder");
            let mut format = java("kafka.tools.StorageTool");
            quiet("format", format.args(["format", "--cluster-id", CLUSTER, "--config"]).arg(&settings), FORMAT_LIMIT)?;
        }
        say("starting the broker");
        let out = logs.join("output.log");
        let (stdout, stderr) = (create(&out)?, create(&logs.join("errors.log"))?);
        let mut server = java("kafka.Kafka");
        // A group of its own: Ctrl-C in this terminal does not end it.
        server.arg(&settings).stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let began = std::time::SystemTime::now();
        let mut child = server.spawn().map_err(|e| format!("cannot start Kafka: {e}"))?;
        write(&self.pid_file(), &child.id().to_string())?;
        let deadline = Instant::now() + UP_LIMIT;
        while !self.is_up(&logs, began) {
            if let Some(status) = child.try_wait().map_err(|e| format!("cannot watch Kafka: {e}"))? {
                return Err(format!("Kafka ended at once ({status}): see {}", logs.display()));
            }
            if Instant::now() > deadline {
                self.stop()?;
                return Err(format!("Kafka was not up after {} s: see {}", UP_LIMIT.as_secs(), logs.display()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        say(&format!("up as process {}; its log is {}", child.id(), logs.join("server.log").display()));
        println!("bootstrap.servers=127.0.0.1:{}", self.port);
        Ok(())
    }

    fn stop(&self) -> Result<(), String> {
        let Some(pid) = self.running() else {
            say("no broker of this checkout is running");
            return Ok(());
        };
        quiet("kill", Command::new("kill").arg(&pid), DOWN_LIMIT)?;
        let deadline = Instant::now() + DOWN_LIMIT;
        while self.running().is_some() {
            if Instant::now() > deadline {
                say("it does not stop, killing it");
                quiet("kill", Command::new("kill").args(["-9", &pid]), DOWN_LIMIT)?;
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        say(&format!("broker (process {pid}) stopped"));
        std::fs::remove_file(self.pid_file()).map_err(|e| format!("cannot remove {}: {e}", self.pid_file().display()))
    }

    /// The number in our file, if that process is still a Kafka and no other that got its number.
    fn running(&self) -> Option<String> {
        let pid = read(&self.pid_file()).ok()?.trim().to_owned();
        let command = ask("ps", &["-p", &pid, "-o", "args="])?;
        (command.contains("kafka.Kafka") && command.contains(self.folder.to_str()?)).then_some(pid)
    }

    fn is_up(&self, logs: &Path, began: std::time::SystemTime) -> bool {
        let log = logs.join("server.log");
        let fresh = std::fs::metadata(&log).and_then(|m| m.modified()).is_ok_and(|at| at >= began);
        let listens = std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        fresh
            && listens
            && read(&log).is_ok_and(|text| {
                text.rsplit("starting (kafka.server").next().is_some_and(|t| t.contains("started (kafka.server"))
            })
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("broker.pid")
    }

    fn settings(&self) -> String {
        let (port, controller) = (self.port, self.port.saturating_add(1));
        let data = self.folder.join("data");
        format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\nshare.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\nnum.partitions=4\nauto.create.topics.enable=true\n",
            data.display()
        )
    }
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
