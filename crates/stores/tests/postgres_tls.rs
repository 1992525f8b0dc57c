//! TLS to PostgreSQL with libpq's words, over real servers: SQL sessions and the replication session.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hutong_core::{Checkpoint, Contract, Error, ErrorKind, Field, Op, Secret, Source as _, Type, Value};
use hutong_stores::postgres::connect::{self, Session};
use hutong_stores::postgres::{Source, SourceConfig, Table, remove};
use hutong_testkit::launch::{Postgres, PostgresBuilder};
use tempfile::TempDir;

const HOST: &str = "db.gongan.example";
const PASSWORD: &str = "hidden99";

/// Certificates of one test, and a PostgreSQL that shows one of them.
struct Given {
    files: TempDir,
    port: u16,
    _server: Postgres,
}

impl Given {
    /// Starts a server with `server.pem` of a new authority, for [`HOST`] and 127.0.0.1, that insists on TLS.
    async fn new() -> Self {
        let files = folder();
        authority(&files, "ca");
        authority(&files, "other");
        issued(&files, "server", HOST, Some(&format!("subjectAltName=DNS:{HOST},IP:127.0.0.1")));
        Self::with(files, "hostssl").await
    }

    async fn with(files: TempDir, host: &str) -> Self {
        let access = format!(
            "local all all trust\n{host} all postgres 127.0.0.1/32 scram-sha-256\n\
             {host} replication postgres 127.0.0.1/32 scram-sha-256\n\
             hostssl all keeper 127.0.0.1/32 cert\nhostssl replication keeper 127.0.0.1/32 cert\n"
        );
        fs::write(files.path().join("hba"), access).unwrap();
        let server = tls(Postgres::builder(), &files)
            .setting("hba_file", files.path().join("hba").to_str().unwrap())
            .password(PASSWORD)
            .start()
            .await
            .unwrap();
        Self { port: server.port(), files, _server: server }
    }

    /// The superuser's address with these parameters; `{}` is the folder of the files.
    fn address(&self, host: &str, tls: &str) -> Secret {
        let tls = tls.replace("{}", self.files.path().to_str().unwrap());
        let port = self.port;
        Secret::new(format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=postgres password={PASSWORD} dbname=postgres {tls}"
        ))
    }
}

fn tls(server: PostgresBuilder, files: &TempDir) -> PostgresBuilder {
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    server
        .setting("ssl", "on")
        .setting("ssl_cert_file", path("server.pem"))
        .setting("ssl_key_file", path("server.key"))
        .setting("ssl_ca_file", path("ca.pem"))
}

/// A folder that the server's user may enter.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn openssl(files: &TempDir, arguments: &str) {
    let out = Command::new("openssl").args(arguments.split(' ')).current_dir(files.path()).output().unwrap();
    assert!(out.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Makes `<name>.pem`, which signs itself, and `<name>.key`.
fn authority(files: &TempDir, name: &str) {
    openssl(
        files,
        &format!("req -x509 {NEW_KEY} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"),
    );
    owned_by_the_server(files.path().join(format!("{name}.key")).as_path());
}

/// Makes `<name>.pem` of the authority `ca`, and `<name>.key`; version 1 without extensions.
fn issued(files: &TempDir, name: &str, subject: &str, extensions: Option<&str>) {
    openssl(files, &format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={subject}"));
    let mut sign = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2");
    if let Some(extensions) = extensions {
        fs::write(files.path().join("extensions"), extensions).unwrap();
        sign.push_str(" -extfile extensions");
    }
    openssl(files, &format!("{sign} -out {name}.pem"));
    owned_by_the_server(files.path().join(format!("{name}.key")).as_path());
}

/// PostgreSQL wants its key for itself, and runs as `postgres` where the tests run as root.
fn owned_by_the_server(key: &Path) {
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    if fs::metadata(key).unwrap().uid() == 0 {
        assert!(Command::new("chown").arg("postgres").arg(key).status().unwrap().success());
    }
}

async fn refused(address: &Secret) -> Error {
    let error = connect::open(address, "test").await.err().expect("refused");
    assert!(!format!("{error:?}").contains(PASSWORD), "a secret is never printed: {error:?}");
    error
}

/// Whether the session is encrypted, as the server sees it.
async fn encrypted(session: &Session) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    session.query_one(sql, &[]).await.unwrap().get(0)
}

/// Opens a capture of an empty table, both of this name.
async fn opened(address: &Secret, capture: &str) -> (Session, Source) {
    let session = connect::open(address, "test").await.unwrap();
    session.batch_execute(&format!("CREATE TABLE {capture} (id int PRIMARY KEY)")).await.unwrap();
    let contract = Contract {
        stream: "people".into(),
        doc: "A row of a test.".into(),
        sharing: hutong_core::contract::Sharing::Unconditional,
        fields: vec![Field::new("id", Type::Int)],
        key: vec![0],
        catalogue: Default::default(),
    };
    let table = Table { name: capture.into(), contract: contract.shared() };
    let mut source = Source::new(SourceConfig::new(address.clone(), capture, vec![table]));
    source.open(&Checkpoint::default()).await.unwrap();
    (session, source)
}

/// Captures a row through the address, and returns whether the replication session was encrypted.
async fn captures(address: &Secret, capture: &str) -> bool {
    let (session, mut source) = opened(address, capture).await;
    session.batch_execute(&format!("INSERT INTO {capture} VALUES (99)")).await.unwrap();
    let row = async {
        loop {
            let batch = source.next().await.unwrap().unwrap();
            if let Some(change) = batch.changes.into_iter().find(|change| change.op == Op::Insert) {
                return change.after.unwrap();
            }
        }
    };
    let row = tokio::time::timeout(Duration::from_secs(30), row).await.expect("a row in time");
    assert_eq!(row, [Value::Integer(99)]);
    let sql =
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE application_name LIKE $1";
    let encrypted = session.query_one(sql, &[&format!("hutong %{capture}")]).await.unwrap().get(0);
    source.close().await.unwrap();
    remove(address, capture).await.unwrap();
    encrypted
}

#[tokio::test]
async fn verify_full_with_the_right_authority_carries_sql_and_replication() {
    let given = Given::new().await;
    let address = given.address(HOST, "sslmode=verify-full sslrootcert={}/ca.pem channel_binding=require");
    assert!(encrypted(&connect::open(&address, "test").await.unwrap()).await);
    assert!(captures(&address, "named").await);

    // The other form of an address, and a certificate for a number instead of a name.
    let (port, ca) = (given.port, given.files.path().join("ca.pem"));
    let address = Secret::new(format!(
        "postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={}",
        ca.display()
    ));
    assert!(captures(&address, "numbered").await);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_name() {
    let given = Given::new().await;
    for mode in ["verify-ca", "verify-full", "require"] {
        let address = given.address(HOST, &format!("sslmode={mode} sslrootcert={{}}/other.pem"));
        let error = refused(&address).await;
        assert_eq!(error.kind, ErrorKind::Denied, "{mode}: {error:?}");
        assert!(error.to_string().contains("UnknownIssuer"), "{error:?}");
        assert!(error.hint.as_deref().unwrap().contains("set sslrootcert"), "{error:?}");
    }
    // An authority of the system has not signed it either.
    assert_eq!(refused(&given.address(HOST, "sslmode=verify-full")).await.kind, ErrorKind::Denied);

    let error = refused(&given.address(HOST, "sslmode=verify-full sslrootcert={}/nothing.pem")).await;
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.to_string().contains("nothing.pem"), "{error:?}");
}

#[tokio::test]
async fn another_host_is_refused_with_verify_full_and_accepted_with_verify_ca() {
    let given = Given::new().await;
    let error = refused(&given.address("wrong.example", "sslmode=verify-full sslrootcert={}/ca.pem")).await;
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("wrong.example") && error.to_string().contains(HOST), "{error:?}");
    assert!(error.hint.as_deref().unwrap().contains("subjectAltName"), "{error:?}");

    assert!(
        captures(&given.address("wrong.example", "sslmode=verify-ca sslrootcert={}/ca.pem"), "elsewhere")
            .await
    );
}

#[tokio::test]
async fn a_server_that_insists_on_tls_says_so_and_gets_it_unless_it_is_disabled() {
    let given = Given::new().await;
    let error = refused(&given.address(HOST, "sslmode=disable")).await;
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("no encryption"), "{error:?}");
    assert!(error.hint.as_deref().unwrap().contains("sslmode=verify-full"), "{error:?}");

    assert!(captures(&given.address(HOST, "sslmode=require"), "required").await);
    assert!(captures(&given.address(HOST, ""), "preferred").await);
}

#[tokio::test]
async fn many_rows_come_whole_and_the_server_may_end_the_session() {
    let given = Given::new().await;
    let address = given.address(HOST, "sslmode=verify-full sslrootcert={}/ca.pem");
    let (session, mut source) = opened(&address, "many").await;
    session.batch_execute("INSERT INTO many SELECT generate_series(1, 100000)").await.unwrap();
    let mut rows = 0;
    while rows < 100_000 {
        let batch = tokio::time::timeout(Duration::from_secs(30), source.next()).await.expect("rows in time");
        // The snapshot of the table, which was empty, may have met them too.
        for change in batch.unwrap().unwrap().changes.into_iter().filter(|change| change.op == Op::Insert) {
            rows += 1;
            assert_eq!(change.after.unwrap(), [Value::Integer(rows)], "I4");
        }
    }

    session.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await.unwrap();
    let ended = async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("an end in time");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("terminating connection"), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_asked_for() {
    let server = Postgres::start().await.unwrap();
    let error = refused(&Secret::new(format!("{}?sslmode=require", server.url()))).await;
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.hint.as_deref().unwrap().contains("turn ssl on"), "{error:?}");

    assert!(!captures(&Secret::new(format!("{}?sslmode=prefer", server.url())), "plain").await);
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_its_own_authority() {
    let files = folder();
    authority(&files, "ca");
    let own = format!("req -x509 {NEW_KEY} -keyout server.key -out server.pem -days 2 -subj /CN=x -addext");
    openssl(&files, &format!("{own} subjectAltName=DNS:{HOST}"));
    owned_by_the_server(&files.path().join("server.key"));
    let given = Given::with(files, "hostssl").await;

    assert!(captures(&given.address(HOST, "sslmode=verify-full sslrootcert={}/server.pem"), "own").await);
    let error =
        refused(&given.address("wrong.example", "sslmode=verify-full sslrootcert={}/server.pem")).await;
    assert_eq!(error.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn an_old_certificate_encrypts_and_is_refused_where_it_should_prove_something() {
    let files = folder();
    authority(&files, "ca");
    issued(&files, "server", HOST, None);
    let given = Given::with(files, "host").await;

    assert!(captures(&given.address(HOST, "sslmode=require"), "old").await);
    assert!(!captures(&given.address(HOST, "sslmode=disable"), "open").await);
    let error = refused(&given.address(HOST, "sslmode=verify-full sslrootcert={}/ca.pem")).await;
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.hint.as_deref().unwrap().contains("subjectAltName"), "{error:?}");
}

#[tokio::test]
async fn our_own_certificate_takes_the_place_of_a_password() {
    let given = Given::new().await;
    issued(&given.files, "keeper", "keeper", Some("extendedKeyUsage=clientAuth"));
    let verified = "sslmode=verify-full sslrootcert={}/ca.pem";
    let admin = connect::open(&given.address(HOST, verified), "test").await.unwrap();
    admin.batch_execute("CREATE ROLE keeper LOGIN SUPERUSER").await.unwrap();

    let keeper = format!("{verified} user=keeper");
    assert_eq!(refused(&given.address(HOST, &keeper)).await.kind, ErrorKind::Denied);
    let with = format!("{keeper} sslcert={{}}/keeper.pem sslkey={{}}/keeper.key");
    assert!(captures(&given.address(HOST, &with), "kept").await);
    // One of an authority that the server does not know.
    let with = format!("{keeper} sslcert={{}}/other.pem sslkey={{}}/other.key");
    let error = refused(&given.address(HOST, &with)).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
    assert!(error.hint.as_deref().unwrap().contains("sslcert"), "{error:?}");
}
