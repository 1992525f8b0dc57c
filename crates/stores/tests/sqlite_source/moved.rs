//! A file that is moved away, or replaced, under a source that has it open.

use hutong_testkit::moved::put;

use super::*;

#[tokio::test]
async fn i3_i7_no_watermark_vouches_for_a_file_that_is_gone_and_it_is_read_on_when_it_is_back() {
    let office = Office::installed(TABLES[0]);
    office.run("INSERT INTO people (id, code) VALUES (1, 'x')").unwrap();
    let mut source = office.open(&Checkpoint::default()).await;
    let mut replica = Replica::default();
    replica.catch_up(&mut source).await;
    let away = office.folder.path().join("away.db");
    put(&office.path(), &away);

    let told = source.next().await.unwrap_err();
    let opened = source.open(&replica.at).await.unwrap_err();

    for error in [told, opened] {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("office.db is gone") && error.hint.is_some(), "{error}");
    }
    assert!(!office.path().exists(), "an opening makes no file");
    put(&away, &office.path());
    office.run("INSERT INTO people (id, code) VALUES (2, 'y')").unwrap();
    source.open(&replica.at).await.unwrap();
    replica.catch_up(&mut source).await;
    assert_eq!(replica.rows, office.rows());
}

#[tokio::test]
async fn i3_i7_a_file_that_is_put_in_the_place_of_another_is_not_read_by_the_process_that_has_opened_that() {
    let office = Office::installed(TABLES[0]);
    office.run("INSERT INTO people (id, code) VALUES (1, 'x')").unwrap();
    let mut source = office.open(&Checkpoint::default()).await;
    let mut replica = Replica::default();
    replica.catch_up(&mut source).await;
    let folder = office.folder.path();
    let copy = folder.join("copy.db");
    office.run(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
    put(&office.path(), &folder.join("away.db"));
    put(&copy, &office.path());
    let restored = Connection::open(office.path()).unwrap();
    restored.execute_batch("INSERT INTO people (id, code) VALUES (2, 'y')").unwrap();

    drop(restored);
    let told = source.next().await.unwrap_err();
    let opened = source.open(&replica.at).await.unwrap_err();

    for error in [told, opened] {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("another file stands at"), "{error}");
        assert!(error.hint.unwrap().contains("stop `hutong run`"));
    }
    put(&office.path(), &copy);
    put(&folder.join("away.db"), &office.path());
    office.run("INSERT INTO people (id, code) VALUES (3, 'z')").unwrap();
    source.open(&replica.at).await.unwrap();
    replica.catch_up(&mut source).await;
    let ids: Vec<i64> = replica.rows.into_keys().collect();
    assert_eq!(ids, [1, 3]);
}

#[tokio::test]
async fn a_file_that_was_never_there_is_no_outage() {
    let office = Office::installed(TABLES[0]);
    let config = SourceConfig { path: office.folder.path().join("never.db"), ..office.config() };
    let error = sqlite::Source::new(config).open(&Checkpoint::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error}");
}
