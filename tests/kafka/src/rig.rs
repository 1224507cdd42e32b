//! A Kafka cluster as a guard.

use crate::janitor::Janitor;
use crate::node::{Home, Node, free_port};
use crate::proxy::Proxy;
use crate::{acl, skip};
use anyhow::{Context, Result, bail, ensure};
use keyrail::broker::kafka as client;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Of the key store of the brokers, which holds nothing worth guarding.
const STORE_PASSWORD: &str = "keyrail-test";
/// May do everything, by any listener.
const ADMIN: (&str, &str) = ("admin", "admin-secret");

/// How a client speaks to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// No TLS, no login; may do everything.
    Plain,
    /// TLS without login.
    Tls,
    /// TLS and a login; what the user may do is up to [`Kafka::allow`].
    SaslTls,
    /// As `Plain`, by the proxies of [`Options::proxied`].
    Proxied,
}

impl Security {
    fn listener(self) -> &'static str {
        match self {
            Self::Plain => "PLAINTEXT",
            Self::Tls => "SSL",
            Self::SaslTls => "SASL_SSL",
            Self::Proxied => "PROXIED",
        }
    }

    fn protocol(self) -> String {
        let speaks = if self == Self::Proxied { Self::Plain } else { self };
        speaks.listener().to_lowercase()
    }
}

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many brokers; the first is the controller too.
    pub brokers: u32,
    /// Listeners with TLS and with TLS and login, and access rules. Costs a second more.
    pub secured: bool,
    /// A proxy before each broker, for clients that come by [`Security::Proxied`].
    pub proxied: bool,
    /// Users that can log in, with their passwords; `admin` is always there.
    pub users: Vec<(String, String)>,
    /// More broker properties.
    pub properties: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { brokers: 1, secured: false, proxied: false, users: Vec::new(), properties: Vec::new() }
    }
}

/// A running cluster; stopped and removed on drop, and also when the process dies.
#[derive(Debug)]
pub struct Kafka {
    nodes: Mutex<Vec<Node>>,
    bootstrap: BTreeMap<&'static str, String>,
    proxies: Vec<Proxy>,
    folder: PathBuf,
    // Dropped last: it removes the folder.
    _janitor: Janitor,
}

/// Starts a cluster for one test. `None`, with a line of why, on a machine without Kafka.
///
/// # Panics
/// When Kafka is there and does not start: that is no reason to skip.
#[must_use]
#[allow(clippy::panic, reason = "a broker that does not start fails the test that asked for it")]
pub fn start(test: &str, options: &Options) -> Option<Kafka> {
    let Some(home) = Home::find() else {
        skip(test, "KEYRAIL_KAFKA_HOME is not set; cargo xtask test sets it");
        return None;
    };
    match Kafka::new(&home, options) {
        Ok(kafka) => Some(kafka),
        Err(e) => panic!("{test}: {e:#}"),
    }
}

/// One broker that all tests share which do nothing to it; topics and groups need names of their own.
#[must_use]
pub fn shared(test: &str) -> Option<&'static Kafka> {
    static SHARED: LazyLock<Option<Kafka>> = LazyLock::new(|| start("the shared broker", &Options::default()));
    if SHARED.is_none() {
        skip(test, "KEYRAIL_KAFKA_HOME is not set; cargo xtask test sets it");
    }
    SHARED.as_ref()
}

impl Kafka {
    fn new(home: &Home, options: &Options) -> Result<Self> {
        let folder = std::env::temp_dir().join(crate::unique("keyrail-kafka"));
        fs::create_dir_all(&folder)?;
        let janitor = Janitor::new(&folder)?;
        let store = if options.secured { Some(key_store(home, &folder)?) } else { None };
        let controller = free_port()?;
        let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
        let mut bootstrap: BTreeMap<_, Vec<String>> = BTreeMap::new();
        let mut users: Vec<_> = options.users.iter().map(|(n, p)| (n.as_str(), p.as_str())).collect();
        users.push(ADMIN);
        for id in 1..=options.brokers {
            let mut ports = BTreeMap::new();
            for listener in &listeners(options) {
                let port = free_port()?;
                let mut advertised = port;
                if *listener == Security::Proxied.listener() {
                    let proxy = Proxy::start(port)?;
                    advertised = proxy.port();
                    proxies.push(proxy);
                }
                ports.insert(*listener, Ports { own: port, advertised });
                bootstrap.entry(*listener).or_default().push(format!("127.0.0.1:{advertised}"));
            }
            let properties = properties(options, id, controller, &ports, store.as_deref());
            nodes.push(Node::prepare(home, &folder, id, &properties, if options.secured { &users } else { &[] })?);
        }
        for node in &mut nodes {
            node.spawn()?;
        }
        for node in &mut nodes {
            node.wait_ready()?;
        }
        let bootstrap = bootstrap.into_iter().map(|(l, all)| (l, all.join(","))).collect();
        Ok(Self { nodes: Mutex::new(nodes), bootstrap, proxies, folder, _janitor: janitor })
    }

    /// Addresses of one listener of all brokers.
    #[must_use]
    pub fn bootstrap(&self, security: Security) -> &str {
        self.bootstrap.get(security.listener()).map_or("", String::as_str)
    }

    /// The certificate of the authority that signed the brokers' certificates.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Properties that connect without login.
    #[must_use]
    pub fn properties(&self, security: Security) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            ("bootstrap.servers".to_owned(), self.bootstrap(security).to_owned()),
            ("security.protocol".to_owned(), security.protocol()),
        ]);
        if matches!(security, Security::Tls | Security::SaslTls) {
            all.insert("ssl.ca.location".to_owned(), self.ca().display().to_string());
        }
        all
    }

    /// Properties that log in.
    #[must_use]
    pub fn login(&self, mechanism: &str, user: &str, password: &str) -> BTreeMap<String, String> {
        let mut all = self.properties(Security::SaslTls);
        for (name, value) in [("sasl.mechanism", mechanism), ("sasl.username", user), ("sasl.password", password)] {
            all.insert(name.to_owned(), value.to_owned());
        }
        all
    }

    /// Allows a user an operation (`Read`, `Write`, `Describe`, `Create`, ...) on a resource (`topic`, `group`,
    /// `transactional-id`, `transactional-ids` that begin so, `cluster`).
    pub fn allow(&self, user: &str, operation: &str, resource: &str, name: &str) -> Result<()> {
        acl::allow(self.bootstrap(Security::Plain), user, operation, resource, name)
    }

    /// Makes a topic, and waits until all brokers know it.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let kafka = client::Kafka::new(&self.properties(Security::Plain))
            .map_err(|all| anyhow::anyhow!("{}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        let topics = kafka.topics()?;
        let settings: Vec<_> = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        topics.create(name, partitions, &settings, Duration::from_secs(20))?;
        let until = Instant::now() + Duration::from_secs(20);
        while topics.describe(&[name], Duration::from_secs(5))?.first().and_then(|i| i.partitions) != Some(partitions) {
            ensure!(Instant::now() < until, "topic {name} is made, but not known after 20 s");
        }
        Ok(())
    }

    fn node<T>(&self, id: u32, act: impl FnOnce(&mut Node) -> Result<T>) -> Result<T> {
        let mut nodes = self.nodes.lock().map_err(|_| anyhow::anyhow!("another test panicked at this broker"))?;
        let index = (id as usize).checked_sub(1).context("brokers count from 1")?;
        act(nodes.get_mut(index).with_context(|| format!("there is no broker {id}"))?)
    }

    /// The proxy before a broker of a cluster that has them.
    pub fn proxy(&self, id: u32) -> Result<&Proxy> {
        let index = (id as usize).checked_sub(1).context("brokers count from 1")?;
        self.proxies.get(index).with_context(|| format!("there is no proxy before a broker {id}"))
    }

    /// The folder of a broker's logs: a folder in it for each of its partitions, `TOPIC-NUMBER`.
    pub fn data(&self, id: u32) -> Result<PathBuf> {
        self.node(id, |n| Ok(n.data()))
    }

    /// Stops a broker in good order.
    pub fn stop(&self, id: u32) -> Result<()> {
        self.node(id, |n| n.signal("TERM").and_then(|()| n.join()))
    }

    /// Kills a broker (kill -9).
    pub fn kill(&self, id: u32) -> Result<()> {
        self.node(id, |n| n.signal("KILL").and_then(|()| n.join()))
    }

    /// Starts a stopped or killed broker again, on its old ports and data.
    pub fn restart(&self, id: u32) -> Result<()> {
        self.node(id, |n| n.spawn().and_then(|()| n.wait_ready()))
    }

    /// Freezes a broker (SIGSTOP).
    pub fn freeze(&self, id: u32) -> Result<()> {
        self.node(id, |n| n.signal("STOP"))
    }

    /// Lets a frozen broker go on (SIGCONT).
    pub fn thaw(&self, id: u32) -> Result<()> {
        self.node(id, |n| n.signal("CONT"))
    }

    /// The last of what a broker said, for a failed test's message.
    pub fn story(&self, id: u32) -> Result<String> {
        self.node(id, |n| Ok(n.story()))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // Before the janitor removes the folder that they write to.
        if let Ok(nodes) = self.nodes.get_mut() {
            nodes.clear();
        }
    }
}

fn listeners(options: &Options) -> Vec<&'static str> {
    let mut all = vec!["PLAINTEXT"];
    if options.secured {
        all.extend(["SSL", "SASL_SSL"]);
    }
    if options.proxied {
        all.push(Security::Proxied.listener());
    }
    all
}

/// Of one listener: where it listens, and what it tells its clients.
struct Ports {
    own: u16,
    advertised: u16,
}

/// A key of the brokers' own, good for localhost, and its certificate for the clients.
fn key_store(home: &Home, folder: &std::path::Path) -> Result<PathBuf> {
    let store = folder.join("broker.p12");
    let keytool = |args: &[&str]| -> Result<()> {
        let mut tool = Command::new(home.keytool());
        tool.args(args).args(["-alias", "broker", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"]);
        let output = tool.arg(&store).output().context("starting keytool, which comes with Java")?;
        if !output.status.success() {
            bail!("keytool: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(())
    };
    let names = "san=dns:localhost,ip:127.0.0.1";
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "RSA",
        "-keysize",
        "2048",
        "-dname",
        "CN=localhost",
        "-ext",
        names,
        "-validity",
        "3650",
    ])?;
    let ca = folder.join("ca.pem").display().to_string();
    keytool(&["-exportcert", "-rfc", "-file", &ca])?;
    Ok(store)
}

fn properties(
    options: &Options,
    id: u32,
    controller: u16,
    ports: &BTreeMap<&str, Ports>,
    store: Option<&std::path::Path>,
) -> Vec<(String, String)> {
    let replicas = options.brokers.min(3);
    let listen = |port: fn(&Ports) -> u16| -> Vec<String> {
        ports.iter().map(|(listener, p)| format!("{listener}://127.0.0.1:{}", port(p))).collect()
    };
    let (mut own, advertised) = (listen(|p| p.own), listen(|p| p.advertised).join(","));
    if id == 1 {
        own.push(format!("CONTROLLER://127.0.0.1:{controller}"));
    }
    let protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT";
    let mut all: Vec<(String, String)> = vec![
        ("process.roles".into(), if id == 1 { "broker,controller" } else { "broker" }.into()),
        ("controller.quorum.voters".into(), format!("1@127.0.0.1:{controller}")),
        ("controller.listener.names".into(), "CONTROLLER".into()),
        ("listeners".into(), own.join(",")),
        ("advertised.listeners".into(), advertised),
        ("listener.security.protocol.map".into(), protocols.into()),
        ("inter.broker.listener.name".into(), "PLAINTEXT".into()),
        ("offsets.topic.replication.factor".into(), replicas.to_string()),
        ("default.replication.factor".into(), replicas.to_string()),
        ("transaction.state.log.replication.factor".into(), replicas.to_string()),
        ("transaction.state.log.min.isr".into(), "1".into()),
        // Fewer partitions of its own: a new broker makes them at the first group, while a test waits.
        ("offsets.topic.num.partitions".into(), "4".into()),
        ("transaction.state.log.num.partitions".into(), "4".into()),
        ("group.initial.rebalance.delay.ms".into(), "0".into()),
        ("auto.create.topics.enable".into(), "false".into()),
        ("log.cleaner.dedupe.buffer.size".into(), "4194304".into()),
        // So that a test can have short sessions.
        ("group.min.session.timeout.ms".into(), "1000".into()),
        // The new protocol (KIP-848) leaves these to the broker: short, since its members learn of all by heartbeats.
        ("group.consumer.min.session.timeout.ms".into(), "1000".into()),
        ("group.consumer.session.timeout.ms".into(), "3000".into()),
        ("group.consumer.min.heartbeat.interval.ms".into(), "100".into()),
        ("group.consumer.heartbeat.interval.ms".into(), "300".into()),
    ];
    if let Some(store) = store {
        let sub = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"admin\";";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        all.extend([
            ("ssl.keystore.location".into(), store.display().to_string()),
            ("ssl.keystore.type".into(), "PKCS12".into()),
            ("ssl.keystore.password".into(), STORE_PASSWORD.into()),
            ("ssl.key.password".into(), STORE_PASSWORD.into()),
            ("sasl.enabled.mechanisms".into(), "SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".into()),
            ("listener.name.sasl_ssl.oauthbearer.sasl.jaas.config".into(), sub.into()),
            ("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config".into(), scram.into()),
            ("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config".into(), scram.into()),
            ("authorizer.class.name".into(), "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into()),
            ("super.users".into(), format!("User:ANONYMOUS;User:{}", ADMIN.0)),
        ]);
    }
    all.extend(options.properties.iter().cloned());
    all
}
