//! A Kafka that asks who comes: SASL/SCRAM over TLS, an authorizer, and beside it a door for those without a name.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::{Doing, Result};
use super::kafka::{Kafka, KafkaBuilder};
use super::port::free_port;
use super::server::{self, Program};

/// The user who may do everything.
pub const OPERATOR: &str = "hutong";

/// An Apache Kafka of one node with the standard authorizer, where nobody may do what nobody has allowed.
///
/// Its certificates are made when it starts, by an authority of its own.
#[derive(Debug)]
pub struct SecuredKafka {
    kafka: Kafka,
    port: u16,
    files: TempDir,
}

/// What a node needs to ask who comes.
#[derive(Debug)]
pub(crate) struct Locks {
    port: u16,
    files: PathBuf,
    users: Vec<String>,
}

impl SecuredKafka {
    /// Starts it with these users, beside the [`OPERATOR`].
    pub async fn start(users: &[&str]) -> Result<Self> {
        let files = server::folder(None)?;
        certificates(files.path())?;
        let port = free_port();
        let users = users.iter().chain([&OPERATOR]).map(|user| (*user).to_owned()).collect();
        let locks = Locks { port, files: files.path().to_owned(), users };
        let kafka = KafkaBuilder::default().locked(locks).start().await?;
        Ok(Self { kafka, port, files })
    }

    /// Returns the address for `bootstrap.servers` of those who say who they are.
    pub fn bootstrap(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Returns the address of those who do not: `User:ANONYMOUS`, without TLS.
    pub fn open_bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// Returns the file of the authority that has signed the broker's certificate.
    pub fn authority(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// Returns a user's password.
    pub fn password(user: &str) -> String {
        format!("{user}-secret")
    }
}

impl Locks {
    /// Returns the broker's properties; they stand behind the defaults, of which Java so takes these.
    pub(crate) fn properties(&self, open: u16, controller: u16) -> String {
        let Self { port, files, .. } = self;
        let (files, password) = (files.display(), SecuredKafka::password(OPERATOR));
        format!(
            "listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{open},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://localhost:{port},PLAINTEXT://127.0.0.1:{open}
listener.security.protocol.map=SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{OPERATOR}\" password=\"{password}\";
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"controller\" password=\"c\" user_controller=\"c\";
ssl.keystore.type=PEM
ssl.keystore.location={files}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={files}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{OPERATOR};User:controller
"
        )
    }

    /// Returns the arguments by which the log folder is made with the users in it.
    pub(crate) fn scram(&self) -> Vec<String> {
        let user = |user: &String| {
            let password = SecuredKafka::password(user);
            ["--add-scram".to_owned(), format!("SCRAM-SHA-512=[name={user},password={password}]")]
        };
        self.users.iter().flat_map(user).collect()
    }
}

/// Makes an authority, `ca.pem`, and the broker's key and certificate, `broker.pem`.
fn certificates(folder: &Path) -> Result<()> {
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    fs::write(folder.join("names"), names).doing(|| "write the broker's names".to_owned())?;
    for arguments in [
        format!("req -x509 {new_key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"),
        format!("req {new_key} -keyout broker.key -out broker.csr -subj /CN=broker"),
        "x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out broker.crt"
            .to_owned(),
    ] {
        let inside = arguments.split(' ').map(|word| match Path::new(word).extension() {
            Some(_) => folder.join(word).display().to_string(),
            None if word == "names" => folder.join(word).display().to_string(),
            None => word.to_owned(),
        });
        Program::new("openssl").args(inside).run()?;
    }
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).doing(|| format!("read {}", path.display()))
    };
    let both = read("broker.key")? + &read("broker.crt")? + &read("ca.pem")?;
    fs::write(folder.join("broker.pem"), both).doing(|| "write the broker's certificate".to_owned())
}
