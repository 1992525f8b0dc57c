//! A Kafka of one node, and a cluster of several.

use std::env;
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::error::{Doing, Error, Result};
use super::port::free_port;
use super::secured::Locks;
use super::server::{self, Program, Server};
use super::{java, template};

/// The jars' folder, where it is not `target/servers/kafka/libs`.
const LIBS: &str = "HUTONG_KAFKA_LIBS";

/// An Apache Kafka of one node that is broker and controller (KRaft), without TLS or passwords.
///
/// Topics are not created by themselves when a client names them, as in production.
#[derive(Debug)]
pub struct Kafka {
    server: Server,
    port: u16,
    /// The port of its second listener, where it has one.
    second: Option<u16>,
}

/// What a [`Kafka`] starts with.
#[derive(Debug, Default)]
pub struct KafkaBuilder {
    properties: Vec<(String, String)>,
    advertised: Option<u16>,
    second: Option<u16>,
    locks: Option<Locks>,
}

/// An Apache Kafka of several nodes, each of them broker and controller, to be stopped and killed one by one.
///
/// What belongs to the cluster itself has as many replicas as there are nodes, up to three, of which one may be away.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Kafka>,
}

/// A node's number and ports, and the controllers of its cluster.
struct Node {
    id: usize,
    port: u16,
    /// Where its clients come to it.
    advertised: u16,
    /// The port of a second listener, and where its clients come to it.
    second: Option<(u16, u16)>,
    /// The controllers' ports, of the first node first.
    controllers: Vec<u16>,
}

impl Cluster {
    /// Starts a cluster.
    pub async fn start(nodes: usize) -> Result<Self> {
        let controllers: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let mut cluster = Self { nodes: Vec::new() };
        for id in 1..=nodes {
            let port = free_port();
            let node = Node { id, port, advertised: port, second: None, controllers: controllers.clone() };
            cluster.nodes.push(KafkaBuilder::default().make(&node)?);
        }
        // Not one after the other: a controller is up when most of them are.
        try_join_all(cluster.nodes.iter_mut().map(Kafka::up)).await?;
        Ok(cluster)
    }

    /// Returns the address for `bootstrap.servers`: all nodes.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Kafka::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// Returns its nodes.
    pub fn nodes(&mut self) -> &mut [Kafka] {
        &mut self.nodes
    }
}

impl Kafka {
    /// Starts a Kafka of one's own.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Starts with properties of one's own.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::default()
    }

    /// Returns the Kafka of this test process, which all its tests share.
    ///
    /// Choose names of topics, groups and transactional ids that no other test uses.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Returns the address for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the folder of what it keeps: its log files among others.
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// Returns the loopback port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the loopback port of its second listener, where it has one.
    pub fn second_port(&self) -> Option<u16> {
        self.second
    }

    /// Stops the broker as an operator would (SIGTERM); what it holds stays.
    pub async fn stop(&mut self) -> Result<()> {
        self.server.signal("TERM").await
    }

    /// Kills the broker in the middle of whatever it does (SIGKILL); what it holds stays.
    pub async fn kill(&mut self) -> Result<()> {
        self.server.signal("KILL").await
    }

    /// Stops the broker if it runs, and starts it again at the same address with what it holds.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.up().await
    }

    async fn up(&mut self) -> Result<()> {
        let port = self.port;
        self.server
            .start(async |server: &Server| {
                server.logged("Kafka Server started")
                    && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
            })
            .await
    }
}

impl KafkaBuilder {
    /// Sets a property of the broker, over the default or over an earlier call's.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Names another loopback port than its own to its clients, such as that of a [`Proxy`](super::Proxy).
    pub fn advertised(mut self, port: u16) -> Self {
        self.advertised = Some(port);
        self
    }

    /// Listens on a second port too, and names another loopback port to whoever comes that way: so some of its clients
    /// can be cut off and others not.
    pub fn second_advertised(mut self, port: u16) -> Self {
        self.second = Some(port);
        self
    }

    /// Asks clients who they are.
    pub(crate) fn locked(mut self, locks: Locks) -> Self {
        self.locks = Some(locks);
        self
    }

    /// Starts the broker and waits until it answers.
    pub async fn start(self) -> Result<Kafka> {
        let (port, controller) = (free_port(), free_port());
        let advertised = self.advertised.unwrap_or(port);
        let second = self.second.map(|advertised| (free_port(), advertised));
        let mut kafka =
            self.make(&Node { id: 1, port, advertised, second, controllers: vec![controller] })?;
        kafka.up().await?;
        Ok(kafka)
    }

    /// Makes a node that is not started yet.
    fn make(self, node: &Node) -> Result<Kafka> {
        let libs = libs()?;
        let folder = server::folder(None)?;
        let data = folder.path().join("data");
        let properties = folder.path().join("server.properties");
        let mut text = defaults(&data, node);
        if let Some(locks) = &self.locks {
            text.push_str(&locks.properties(node.port, node.controllers[node.id - 1]));
        }
        for (name, value) in &self.properties {
            // Of two lines with one name, Java takes the later.
            writeln!(text, "{name}={value}").expect("a string takes whatever is written");
        }
        fs::write(&properties, text).doing(|| format!("write {}", properties.display()))?;
        match &self.locks {
            // The users stand in the folder.
            Some(locks) => formatting(&libs, &properties)?.args(locks.scram()).run().map(drop)?,
            None => {
                let name = format!("{}-node{}", version(&libs)?, node.id);
                template::copy(&name, &data, || format(&libs, node.id))?;
            }
        }

        let program = kafka_java(&libs, 512)?.arg("kafka.Kafka").arg(properties);
        let second = node.second.map(|(port, _)| port);
        Ok(Kafka { server: Server::new("Kafka", program, folder), port: node.port, second })
    }
}

fn libs() -> Result<PathBuf> {
    let libs = env::var_os(LIBS).map_or_else(|| template::servers().join("kafka/libs"), PathBuf::from);
    if libs.is_dir() {
        return Ok(libs);
    }
    Err(missing(&libs))
}

fn missing(libs: &Path) -> Error {
    Error::missing(&format!("no Kafka in {} ({LIBS} names another folder)", libs.display()))
}

/// Returns what the broker's own jar is called, such as `kafka_2.13-4.1.0`.
fn version(libs: &Path) -> Result<String> {
    let jars = fs::read_dir(libs).doing(|| format!("list {}", libs.display()))?;
    jars.flatten()
        .filter_map(|jar| jar.file_name().into_string().ok()?.strip_suffix(".jar").map(str::to_owned))
        .find(|name| name.starts_with("kafka_"))
        .ok_or_else(|| missing(libs))
}

fn kafka_java(libs: &Path, heap_mb: u32) -> Result<Program> {
    Ok(java::java(heap_mb)?.arg("-cp").arg(libs.join("*")))
}

/// Makes a formatted log folder: a whole second of Java that is the same each time.
fn format(libs: &Path, id: usize) -> Result<Formatted> {
    let folder = server::folder(None)?;
    let data = folder.path().join("data");
    let properties = folder.path().join("format.properties");
    // Only the number of the node and the cluster's name stay in the folder.
    let node = Node { id, port: 9092, advertised: 9092, second: None, controllers: vec![9093; id] };
    fs::write(&properties, defaults(&data, &node)).doing(|| format!("write {}", properties.display()))?;
    formatting(libs, &properties)?.run()?;
    Ok(Formatted { data, _folder: folder })
}

fn formatting(libs: &Path, properties: &Path) -> Result<Program> {
    let format = ["kafka.tools.StorageTool", "format", "-t", "aHV0b25nLXRlc3RraXQtMQ", "-c"];
    Ok(kafka_java(libs, 256)?.args(format).arg(properties))
}

struct Formatted {
    data: PathBuf,
    _folder: TempDir,
}

impl AsRef<Path> for Formatted {
    fn as_ref(&self) -> &Path {
        &self.data
    }
}

fn defaults(data: &Path, node: &Node) -> String {
    let Node { id, port, advertised, second, controllers } = node;
    let controller = controllers[id - 1];
    let voters = controllers.iter().enumerate().map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1));
    let voters = voters.collect::<Vec<_>>().join(",");
    let replicas = controllers.len().min(3);
    let in_sync = replicas.div_ceil(2);
    let (listens, advertises) = second.map_or_else(Default::default, |(port, advertised)| {
        (format!(",SECOND://127.0.0.1:{port}"), format!(",SECOND://127.0.0.1:{advertised}"))
    });
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listens}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}{advertises}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECOND:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
# A killed broker may not register again before its session is over; the default is 9 s.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
",
        data.display()
    )
}
