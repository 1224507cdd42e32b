//! `keyrail plugins`: what a running process runs, and hands to pause it and let it go on.

mod show;

use super::terminal::{self, say};
use super::{Config, Exit, WrongUse, broker, run};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use keyrail::admin::client::{Answer, ask};
use keyrail::admin::deployment::Deployment;
use keyrail::config::Secret;
use serde::Deserialize;
use show::Entry;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// The process answers between two things that it does; its own limit is 20 s.
const ANSWER: Duration = Duration::from_secs(25);
/// Between two looks whether it is so.
const LOOK: Duration = Duration::from_millis(100);
/// How long a pipeline that was resumed may take to start. One that drains has `shutdown-grace`.
const START: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct PluginsArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    process: Process,
}

/// Whom to ask.
#[derive(Debug, Clone, Args)]
struct Process {
    #[command(flatten)]
    config: Config,
    /// Where the process listens [default: admin.listen of keyrail.toml]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all pipelines: what each does, which version serves, since when, and what became of messages since; the default
    List(Process),
    /// Show one pipeline, with what is wrong with it and with the last version that was refused
    Show(One),
    /// Let a pipeline finish what it began and leave its group; it stays so until it is resumed, also over restarts
    ///
    /// Waits until it is drained. What comes meanwhile waits in the topics. Remembered in `store.dir`: other processes of the
    /// group go on, and take over its partitions.
    Pause(One),
    /// Let a paused pipeline go on, with what the folder holds now
    ///
    /// Waits until it runs, and exits 1 if it can't.
    Resume(One),
    /// Let the version that is on trial serve
    Promote(One),
    /// Take back the version that is on trial
    Rollback(One),
}

#[derive(Debug, Args)]
struct One {
    /// The pipeline
    name: String,
    #[command(flatten)]
    process: Process,
}

pub(super) fn plugins(args: &PluginsArgs) -> anyhow::Result<Exit> {
    let (one, action) = match &args.command {
        None => return list(&Asker::of(&args.process)?),
        Some(Command::List(process)) => return list(&Asker::of(process)?),
        Some(Command::Show(one)) => return show(&Asker::of(&one.process)?, &one.name),
        Some(Command::Pause(one)) => (one, "pause"),
        Some(Command::Resume(one)) => (one, "resume"),
        Some(Command::Promote(one)) => (one, "promote"),
        Some(Command::Rollback(one)) => (one, "rollback"),
    };
    act(&Asker::of(&one.process)?, &one.name, action)
}

fn show(asker: &Asker, name: &str) -> anyhow::Result<Exit> {
    let body = asker.ask("GET", name, "")?.body;
    if asker.json { print(&body) } else { print(&show::one(&entry(&body)?)) }
}

fn list(asker: &Asker) -> anyhow::Result<Exit> {
    #[derive(Deserialize)]
    struct Page {
        plugins: Vec<Entry>,
    }
    let body = asker.ask("GET", "", "")?.body;
    if asker.json {
        return print(&body);
    }
    let page: Page = serde_json::from_str(&body).with_context(|| OTHER_VERSION)?;
    if page.plugins.is_empty() {
        say("keyrail: it has no pipelines");
        return Ok(Exit::Done);
    }
    terminal::print(show::table(&page.plugins).as_bytes(), "the pipelines")?;
    page.plugins.iter().flat_map(show::remarks).for_each(|line| say(&line));
    Ok(Exit::Done)
}

/// Asks for it, and waits until it is so.
fn act(asker: &Asker, name: &str, action: &str) -> anyhow::Result<Exit> {
    let mut answer = asker.ask("POST", name, &format!("/{action}"))?;
    let until = Instant::now() + if action == "pause" { asker.grace } else { START };
    let mut now = entry(&answer.body)?;
    while answer.status == 202 && !show::is_so(&now, action) {
        if Instant::now() >= until {
            say(&format!(
                "keyrail: {name} is {} still; it goes on by itself: `keyrail plugins show {name}`",
                now.state
            ));
            return Ok(Exit::Failed);
        }
        std::thread::sleep(LOOK);
        let seen = asker.ask("GET", name, "")?;
        now = entry(&seen.body)?;
        (answer.body, answer.status) = (seen.body, 202);
    }
    if asker.json {
        print(&answer.body)?;
    } else {
        print(&format!("{}\n", show::after(&now, action)))?;
    }
    Ok(Exit::of(show::is_well(&now, action)))
}

const OTHER_VERSION: &str = "the process tells something else than expected: is it another version of Keyrail?";

fn entry(body: &str) -> anyhow::Result<Entry> {
    serde_json::from_str(body).with_context(|| OTHER_VERSION)
}

fn print(text: &str) -> anyhow::Result<Exit> {
    terminal::print(text.as_bytes(), "the pipelines").map(|_| Exit::Done)
}

/// Asks one process.
struct Asker {
    address: SocketAddr,
    token: Option<Secret>,
    json: bool,
    grace: Duration,
}

impl Asker {
    fn of(process: &Process) -> anyhow::Result<Self> {
        let config = &process.config;
        let host = broker::host(config)?;
        let token = run::token(&host)?;
        let grace = host.shutdown_grace + Duration::from_secs(5);
        let address = match &process.address {
            Some(written) => named(written)?,
            None if host.admin_listen.port() == 0 => {
                let cure = "give --address HOST:PORT; the process logs it (\"admin server listens\")";
                return Err(
                    WrongUse(format!("[admin] listen has port 0, which is another one each time: {cure}")).into()
                );
            }
            // IMPORTANT: before it is given a token.
            None => own(host.admin_listen, &Deployment::of(config.file()))?,
        };
        Ok(Self { address, token, json: process.json, grace })
    }

    /// `below`: behind the name.
    fn ask(&self, method: &str, name: &str, below: &str) -> anyhow::Result<Answer> {
        // A name of a pipeline is of these; anything else would be another path.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !name.chars().all(plain) || name == "." || name == ".." {
            return Err(WrongUse(format!("no pipeline has the name {name:?}")).into());
        }
        let path = if name.is_empty() { "/plugins".to_owned() } else { format!("/plugins/{name}{below}") };
        let authorization = self.token.as_ref().map(|token| format!("Bearer {}", token.as_str()));
        let answer = ask(method, self.address, &path, authorization.as_deref(), ANSWER)
            .with_context(|| format!("{} does not answer", self.address))?;
        match answer.status {
            200 | 202 => Ok(answer),
            status => {
                let why = why(&answer.body);
                match (status, name.is_empty()) {
                    (404, false) => Err(WrongUse(why).into()),
                    (401, _) => bail!("{why}: [admin] token or token-file must be that of the process"),
                    (403 | 409 | 500 | 503 | 504, _) => bail!("{name}: {why}"),
                    _ => bail!(
                        "{} answers {status}, which `/plugins` never does: is it another version, or no Keyrail?",
                        self.address
                    ),
                }
            }
        }
    }
}

fn why(body: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_str(body).map_or_else(|_| body.trim().to_owned(), |refusal: Refusal| refusal.error)
}

fn named(written: &str) -> anyhow::Result<SocketAddr> {
    let wrong = |why: String| WrongUse(format!("--address {written}: {why}; write HOST:PORT, as 127.0.0.1:8080"));
    let mut found = written.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("it has no address".to_owned()).into())
}

/// Where the process of this keyrail.toml listens, once it is known that it is that.
fn own(listen: SocketAddr, deployment: &Deployment) -> anyhow::Result<SocketAddr> {
    if deployment.answers_at(listen) {
        return Ok(listen);
    }
    let other = "if it listens elsewhere, as `keyrail dev` where the port is taken, give --address HOST:PORT";
    match std::net::TcpStream::connect_timeout(&keyrail::admin::deployment::reachable(listen), Duration::from_secs(2)) {
        Err(error) => {
            bail!("no keyrail runs by this keyrail.toml: nobody listens at {listen} ({error}). Start it; {other}")
        }
        Ok(_) => bail!("what listens at {listen} does not run by this keyrail.toml, and is not asked; {other}"),
    }
}
