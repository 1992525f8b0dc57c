//! `hutong verify` where no process reaches both databases: the halves speak over the bus.

use hutong_testkit::launch::{Postgres, connect};
use serde_json::{Value as Json, json};

use crate::installation::{Bus, Installation, until};

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]},{"name":"own","type":["null","string"]}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i5_the_halves_compare_and_mend_over_the_bus_without_each_others_database() {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
    let table = "CREATE TABLE entry (id bigint PRIMARY KEY, note text, own text);
        INSERT INTO entry SELECT n, '初始' || n, '不出门' FROM generate_series(1, 500) n";
    client.batch_execute(table).await.unwrap();
    let owner = &source.name;
    let stream = |rest: &str| {
        format!(
            "[department.{owner}]\nname = \"市公安局\"\n[department.renshe]\nname = \"市人社局\"\n\
             [stream.entry]\nowner = \"{owner}\"\ncontract = \"entry.avsc\"\n{rest}\n"
        )
    };
    let subscription = |url: &str| {
        format!(
            r#"
[store.share.postgres]
url = {url}
[subscription.entries]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "note"]
rows = "id <> 13"
mask = {{ note = "name" }}
verify = "10s"
into = {{ store = "share", table = "share.entry" }}
"#
        )
    };
    let capturing = format!(
        "{}\n[store.source.postgres]\nurl = \"{}\"\n[capture.{owner}]\nfrom = \"source\"\n\
         tables = {{ \"public.entry\" = \"entry\" }}\nwatermark_interval = \"1s\"\n{}",
        stream(""),
        source.url,
        subscription("{ env = \"NOBODY_TELLS_THE_REPLICAS_ADDRESS_HERE\" }")
    );
    let subscribing =
        stream(&format!("capture = \"{owner}\"")) + &subscription(&format!("\"{}\"", share.url));
    let first = Installation::new(Bus::Kafka, owner, &capturing).await;
    let second = Installation::new(Bus::Kafka, owner, &subscribing).await;
    second.announce(&[
        "the replica could not be compared with its source",
        "the replica differs from its source",
    ]);
    for installation in [&first, &second] {
        installation.write("entry.avsc", CONTRACT);
        installation.ask(&["check"]).expect(0);
    }
    let captures = first.begin(&["run", "--only", &format!("capture.{owner}")]);
    let subscribes = second.run();
    until("every entry is there", async || {
        let count: i64 = replica.query_one("SELECT count(*) FROM share.entry", &[]).await.ok()?.get(0);
        (count == 499).then_some(())
    })
    .await;

    let alone = second.ask(&["verify", "entries", "--patience", "2"]);
    assert_eq!(alone.code, 3, "{}{}", alone.out, alone.err);
    assert!(alone.err.contains("verify SUBSCRIPTION --half source"), "{}", alone.err);

    let half = first.begin(&["verify", "entries", "--half", "source"]);
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "entries", "-o", "json"];
        arguments.extend(more);
        let ended = second.ask(&arguments);
        let answer: Json =
            serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}{}", ended.out, ended.err));
        (ended.code, answer)
    };
    // The other half may still be starting: it hears what is asked from its start on.
    let (code, answer) = until("the other half answers", async || {
        let ended = second.ask(&["verify", "entries", "-o", "json", "--patience", "5"]);
        Some((ended.code, serde_json::from_str::<Json>(&ended.out).ok()?))
    })
    .await;
    assert_eq!((code, &answer["source_rows"]), (0, &json!(499)), "{answer:#}");

    replica
        .batch_execute(
            "DELETE FROM share.entry WHERE id = 7; UPDATE share.entry SET note = '某**' WHERE id = 8;
             INSERT INTO share.entry SELECT 13, note, hutong_lane, hutong_offset FROM share.entry WHERE id = 9",
        )
        .await
        .unwrap();
    let (code, answer) = verify(&[]);
    let differing = answer["differing"].as_array().unwrap();
    let mut found: Vec<(&Json, &Json)> =
        differing.iter().map(|item| (&item["key"]["id"], &item["difference"])).collect();
    found.sort_by_key(|(id, _)| id.as_i64());
    let expected =
        [(7, "missing"), (8, "altered"), (13, "surplus")].map(|(id, kind)| (json!(id), json!(kind)));
    assert_eq!(found, expected.iter().map(|(id, kind)| (id, kind)).collect::<Vec<_>>(), "{answer:#}");
    assert_eq!(code, 10);
    let (code, answer) = verify(&["--repair"]);
    assert_eq!((code, &answer["mended"]), (0, &json!(3)), "{answer:#}");
    // By schedule the running process compares too, and asks the same half.
    let metric = async |name: &str| -> Option<f64> {
        let page =
            reqwest::get(format!("http://{}/metrics", second.address())).await.ok()?.text().await.ok()?;
        let begin = format!("hutong_{name}{{pipeline=\"replicate.entries\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok())
    };
    until("the process has compared by itself", async || {
        metric("verify_last_run_timestamp_seconds").await.filter(|last| *last > 0.0)
    })
    .await;
    replica.batch_execute("DELETE FROM share.entry WHERE id = 7").await.unwrap();
    until("it tells that one row differs", async || {
        metric("verify_mismatches").await.filter(|count| *count == 1.0)
    })
    .await;
    assert!(second.logged("the replica differs from its source"));
    half.stop().await;
    subscribes.stop().await;
    captures.stop().await;
}
