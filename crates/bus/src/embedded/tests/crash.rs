//! Ownership of the folder, and what is left of it after a kill, a full disk or a newer Hutong.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hutong_core::{Class, ErrorKind};
use rusqlite::Connection;

use super::*;
use crate::embedded::folder;

const LONG: Duration = Duration::from_secs(20);

/// A child that does not outlive a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_owns_it() {
    let (path, bus) = bus();
    let error = Bus::open(path.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.to_string().contains(&format!("process {} has it open", std::process::id())), "{error}");
    assert!(!error.hint.unwrap().contains("another folder"), "an empty one would begin everything anew");

    drop(bus);
    Bus::open(path.path(), Options::default()).unwrap();
}

/// The other half of the next test: fills a bus until it is killed.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("HUTONG_TEST_BUS") else { return };
    let bus = Bus::open(path.as_ref(), Options::default()).unwrap();
    topic(&bus, "t", 1, false).await;
    let mut writer = bus.writer(&lane("a", 0)).await.unwrap();
    writer.open().await.unwrap();
    // Bounded, should its parent be killed first.
    for n in 0..3000 {
        writer.commit(vec![record("t", 0, vec![7; 3000]); 20], n.to_string().into()).await.unwrap();
    }
    tokio::time::sleep(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_killed_owner_leaves_whole_commits_and_no_lock() {
    let path = TempDir::new().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::crash::child_that_writes_until_it_is_killed"])
        .env("HUTONG_TEST_BUS", path.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let until = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < until, "the child has written nothing");
        // Commands read while the owner runs.
        let there = match Bus::open_read_only(path.path(), Options::default()) {
            Ok(bus) => bus.extent("t").await.unwrap().is_some_and(|extent| extent[&0].1 >= 200),
            Err(_) => false,
        };
        if there {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = Bus::open(path.path(), Options::default()).err().unwrap();
    assert!(error.to_string().contains(&format!("process {} ", child.0.id())), "{error}");
    child.0.kill().unwrap();
    child.0.wait().unwrap();

    let bus = Bus::open(path.path(), Options::default()).unwrap();
    let mut writer = bus.writer(&lane("a", 0)).await.unwrap();
    let checkpoint = writer.open().await.unwrap().unwrap();

    // I2: the checkpoint is that of the last records.
    let commits: u64 = std::str::from_utf8(&checkpoint).unwrap().parse::<u64>().unwrap() + 1;
    assert_eq!(bus.extent("t").await.unwrap().unwrap()[&0], (0, commits * 20));
    assert_eq!(writer.commit(vec![record("t", 0, "x")], "c".into()).await.unwrap(), [commits * 20]);
}

#[tokio::test]
async fn a_full_disk_is_a_retry_and_nothing_of_the_commit_stays() {
    let (_path, bus) = bus();
    topic(&bus, "t", 1, false).await;
    let mut writer = bus.writer(&lane("a", 0)).await.unwrap();
    writer.open().await.unwrap();
    let limit = |pages: i64| {
        bus.writes().unwrap().run(move |db, _| {
            db.pragma_query_value(None, "max_page_count", |_| Ok(())).unwrap();
            db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
            Ok(())
        })
    };
    // SQLite's own limit is answered as a full disk is.
    limit(1).await.unwrap();

    let error = writer.commit(vec![record("t", 0, vec![1; 500_000])], "1".into()).await.unwrap_err();
    assert_eq!((error.kind, error.class()), (ErrorKind::Unavailable, Class::Retry));
    assert!(error.to_string().contains("full"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("disk"), "{error:?}");

    limit(1_000_000).await.unwrap();
    assert_eq!(writer.open().await.unwrap(), None);
    assert_eq!(writer.commit(vec![record("t", 0, "x")], "1".into()).await.unwrap(), [0]);
}

#[tokio::test]
async fn read_only_reads_and_refuses_to_write() {
    let (path, bus) = bus();
    topic(&bus, "t", 1, false).await;
    let mut writer = bus.writer(&lane("a", 0)).await.unwrap();
    writer.open().await.unwrap();
    writer.commit(vec![record("t", 0, "x")], "1".into()).await.unwrap();
    drop((writer, bus));

    let bus = Bus::open_read_only(path.path(), Options::default()).unwrap();
    let mut reader = bus.reader("t", 0, None).await.unwrap();
    assert_eq!(reader.next(1, 1).await.unwrap().records.len(), 1);
    let error = bus.writer(&lane("a", 0)).await.unwrap().open().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(Bus::open_read_only(&path.path().join("empty"), Options::default()).is_err());
}

#[test]
fn a_file_of_a_newer_hutong_and_a_damaged_file_are_refused() {
    let (path, bus) = bus();
    drop(bus);
    let db = Connection::open(folder::file(path.path())).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = Bus::open(path.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.to_string().contains("layout 99"), "{error}");

    std::fs::write(folder::file(path.path()), [b'x'; 5000]).unwrap();
    let error = Bus::open(path.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Broken, "{error:?}");
}
