//! A captured table that is read to compare it with its replicas.

use std::time::{Duration, Instant};

use hutong_core::{ErrorKind, Secret};
use hutong_stores::postgres::Scan;
use hutong_testkit::launch::{Postgres, connect};

use crate::capture::people;

#[tokio::test]
async fn who_reads_waits_for_a_lock_as_long_as_it_was_told_and_says_what_to_do() {
    let database = Postgres::shared().await.unwrap();
    let (client, url) = (connect(&database.url).await.unwrap(), Secret::new(database.url.as_str()));
    client.batch_execute("CREATE TABLE people (id int PRIMARY KEY, name text)").await.unwrap();
    client.batch_execute("INSERT INTO people VALUES (1, 'a')").await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE people IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let start =
        async |patience| Scan::start(&url, "public.people", people("people"), false, patience).await.unwrap();

    let began = Instant::now();
    let mut impatient = start(Duration::from_millis(300)).await;
    let error = impatient.chunk().await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("lock"), "{error}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("--patience")), "{:?}", error.hint);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());

    // Who has more patience is there when it is free.
    let mut patient = start(Duration::from_secs(600)).await;
    let (rows, freed) = tokio::join!(patient.chunk(), client.batch_execute("COMMIT"));
    freed.unwrap();
    assert_eq!(rows.unwrap().unwrap().len(), 1);
}
