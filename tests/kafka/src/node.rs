//! One broker process.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Ports to choose from.
const PORTS: u32 = 18_000;

/// Where Kafka and Java are.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) kafka: PathBuf,
    pub(crate) java: PathBuf,
}

impl Home {
    /// `None` when this machine was given no Kafka.
    pub(crate) fn find() -> Option<Self> {
        let kafka = PathBuf::from(std::env::var_os("KEYRAIL_KAFKA_HOME")?);
        let java = std::env::var_os("KEYRAIL_JAVA").map_or_else(|| PathBuf::from("java"), PathBuf::from);
        Some(Self { kafka, java })
    }

    /// `keytool` lies beside `java`.
    pub(crate) fn keytool(&self) -> PathBuf {
        let java = fs::canonicalize(&self.java).unwrap_or_else(|_| self.java.clone());
        let beside = java.with_file_name("keytool");
        if beside.exists() { beside } else { PathBuf::from("keytool") }
    }

    fn java(&self, logs: &Path, class: &str) -> Command {
        let mut java = Command::new(&self.java);
        // Small and quick to start; a broker for tests lives for seconds.
        java.args(["-Xmx512m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        java.arg(format!("-Dkafka.logs.dir={}", logs.display()));
        let log4j = self.kafka.join("config/log4j2.properties");
        if log4j.is_file() {
            java.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
        }
        java.arg("-cp").arg(self.kafka.join("libs/*")).arg(class);
        java
    }
}

/// A port that was free a moment ago, below those that the system gives to connections: a broker that is away for a
/// while finds it free again.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests of other processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(37);
    for _ in 0..PORTS {
        let port = 12_000 + (begin.wrapping_add(NEXT.fetch_add(1, Relaxed)) % PORTS) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from 12000 to {}", 12_000 + PORTS)
}

/// One broker; killed on drop.
#[derive(Debug)]
pub(crate) struct Node {
    home: Home,
    folder: PathBuf,
    id: u32,
    child: Option<Child>,
}

impl Node {
    /// Writes the configuration and formats the log folder.
    pub(crate) fn prepare(
        home: &Home,
        root: &Path,
        id: u32,
        properties: &[(String, String)],
        users: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = root.join(format!("node-{id}"));
        fs::create_dir_all(&folder)?;
        let mut text = String::new();
        for (key, value) in properties {
            writeln!(text, "{key}={value}")?;
        }
        writeln!(text, "node.id={id}\nlog.dirs={}", folder.join("data").display())?;
        fs::write(folder.join("server.properties"), text)?;
        let node = Self { home: home.clone(), folder, id, child: None };
        node.format(users)?;
        Ok(node)
    }

    fn format(&self, users: &[(&str, &str)]) -> Result<()> {
        let mut tool = self.home.java(&self.folder, "kafka.tools.StorageTool");
        tool.args(["format", "--ignore-formatted", "-t", "8MPvyyfsRXeaT1cQ4SJ0XQ", "-c"]);
        tool.arg(self.folder.join("server.properties"));
        for (name, password) in users {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                tool.arg("--add-scram").arg(format!("{mechanism}=[name={name},password={password}]"));
            }
        }
        let output = tool.output().with_context(|| format!("starting {}", self.home.java.display()))?;
        if !output.status.success() {
            bail!("formatting Kafka's folder: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts the process; [`Node::wait_ready`] says when it serves.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        drop(fs::remove_file(self.log()));
        let mut java = self.home.java(&self.folder, "kafka.Kafka");
        let out = fs::File::create(self.folder.join("out"))?;
        java.arg(self.folder.join("server.properties")).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = java.spawn().with_context(|| format!("starting {}", self.home.java.display()))?;
        fs::write(self.pid_file(), child.id().to_string())?;
        self.child = Some(child);
        Ok(())
    }

    /// Where its partitions lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn pid_file(&self) -> PathBuf {
        // Beside the node's folder: the janitor looks there.
        self.folder.with_file_name(format!("node-{}.pid", self.id))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        loop {
            if fs::read_to_string(self.log()).is_ok_and(|log| log.contains("Kafka Server started")) {
                return Ok(());
            }
            let Some(child) = &mut self.child else { bail!("broker {} is stopped", self.id) };
            if let Some(status) = child.try_wait()? {
                bail!("broker {} ended with {status} at its start:\n{}", self.id, self.story());
            }
            if Instant::now() > until {
                bail!("broker {} is not up after {START_LIMIT:?}:\n{}", self.id, self.story());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last of what the broker said.
    pub(crate) fn story(&self) -> String {
        let tail = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!("--- output\n{}\n--- server.log\n{}", tail(self.folder.join("out")), tail(self.log()))
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let Some(child) = &self.child else { bail!("broker {} is stopped", self.id) };
        let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status()?;
        if !status.success() {
            bail!("kill -{signal} {}: {status}", child.id());
        }
        Ok(())
    }

    /// Waits for the end of a process that was told to stop; kills it when it takes too long.
    pub(crate) fn join(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let until = Instant::now() + STOP_LIMIT;
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(fs::remove_file(self.pid_file()));
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // KILL works on a stopped process too; a failure means that it has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
