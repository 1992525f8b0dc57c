//! Each launcher brings a server up, and takes it down with everything it left behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hutong_testkit::launch::{Cluster, Kafka, Postgres, Registry, connect};
use tokio::net::TcpStream;

#[tokio::test]
async fn postgres_answers_and_keeps_its_rows_over_kill_and_restart() {
    let mut postgres = Postgres::start().await.unwrap();
    let client = connect(&postgres.url()).await.unwrap();
    client.batch_execute("CREATE TABLE t AS SELECT 7 AS n").await.unwrap();

    postgres.kill().await.unwrap();
    assert!(connect(&postgres.url()).await.is_err());
    postgres.restart().await.unwrap();
    postgres.restart().await.unwrap();

    let client = connect(&postgres.url()).await.unwrap();
    assert_eq!(client.query_one("SELECT n FROM t", &[]).await.unwrap().get::<_, i32>(0), 7);
    assert_eq!(setting(&client, "wal_level").await, "logical");
    assert_eq!(setting(&client, "max_slot_wal_keep_size").await, "8GB");
    assert_eq!(setting(&client, "server_encoding").await, "UTF8");
}

#[tokio::test]
async fn postgres_takes_settings_and_asks_for_a_password() {
    let postgres = Postgres::builder()
        .fsync()
        .without("max_slot_wal_keep_size")
        .setting("application_name", "it's")
        .password("sesame1")
        .start()
        .await
        .unwrap();

    let client = connect(&postgres.url()).await.unwrap();
    assert_eq!(setting(&client, "fsync").await, "on");
    assert_eq!(setting(&client, "max_slot_wal_keep_size").await, "-1");
    assert_eq!(setting(&client, "application_name").await, "it's");
    let wrong = postgres.url().replace("sesame1", "sesame2");
    assert!(connect(&wrong).await.unwrap_err().to_string().contains("password authentication failed"));
}

#[tokio::test]
async fn shared_postgres_gives_each_caller_a_database_of_its_own() {
    let one = Postgres::shared().await.unwrap();
    let two = Postgres::shared().await.unwrap();
    assert_ne!(one.name, two.name);

    let client = connect(&one.url).await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    let client = connect(&two.url).await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
}

#[tokio::test]
async fn postgres_that_cannot_start_shows_its_log() {
    let error = Postgres::builder().setting("no_such_setting", "1").start().await.unwrap_err();
    assert!(
        error.to_string().contains("unrecognized configuration parameter \"no_such_setting\""),
        "{error}"
    );
}

#[tokio::test]
async fn kafka_listens_and_starts_again_after_a_kill() {
    let mut kafka = Kafka::builder().property("log.retention.hours", "1").start().await.unwrap();
    TcpStream::connect(kafka.bootstrap()).await.unwrap();

    kafka.kill().await.unwrap();
    assert!(TcpStream::connect(kafka.bootstrap()).await.is_err());
    kafka.restart().await.unwrap();

    TcpStream::connect(kafka.bootstrap()).await.unwrap();
}

#[tokio::test]
async fn kafka_is_a_cluster_that_a_killed_node_comes_back_to() {
    let mut cluster = Cluster::start(3).await.unwrap();
    for address in cluster.bootstrap().split(',') {
        TcpStream::connect(address).await.unwrap();
    }
    let node = &mut cluster.nodes()[1];

    node.kill().await.unwrap();

    assert!(TcpStream::connect(node.bootstrap()).await.is_err());
    // It says that it is up when the others have let it in again.
    node.restart().await.unwrap();
    TcpStream::connect(node.bootstrap()).await.unwrap();
}

#[tokio::test]
async fn registry_lists_its_subjects() {
    let registry = Registry::shared().await.unwrap();
    let subjects: Vec<String> =
        reqwest::get(format!("{}/subjects", registry.url())).await.unwrap().json().await.unwrap();
    assert!(subjects.is_empty(), "{subjects:?}");
}

/// A shared server is a static, which Rust never drops: only the watchdog ends it. So this test starts
/// itself again in a process of its own, kills that, and looks for the server.
#[tokio::test]
async fn killing_the_test_process_ends_its_servers() {
    const URL: &str = "HUTONG_TESTKIT_URL_FILE";
    if let Some(file) = std::env::var_os(URL) {
        let database = Postgres::shared().await.unwrap();
        let written = std::path::Path::new(&file).with_extension("written");
        std::fs::write(&written, database.url).unwrap();
        std::fs::rename(&written, &file).unwrap();
        std::future::pending::<()>().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing_the_test_process_ends_its_servers"])
        .env(URL, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the server is up", async || file.exists()).await;
    let url = std::fs::read_to_string(&file).unwrap();
    let client = connect(&url).await.unwrap();
    let folder: String = setting(&client, "unix_socket_directories").await;

    process.kill().unwrap();
    process.wait().unwrap();

    until("the server is gone", async || connect(&url).await.is_err()).await;
    until("its folder is gone", async || !std::path::Path::new(&folder).exists()).await;
}

async fn setting(client: &tokio_postgres::Client, name: &str) -> String {
    client.query_one("SELECT current_setting($1)", &[&name]).await.expect("a setting's value").get(0)
}

async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
