//! Two processes with a configuration each: one captures, the other subscribes, over one Kafka.

use hutong_testkit::launch::{Postgres, connect};

use crate::installation::{Bus, Installation, until};
use crate::replica::{Expected, Projection, Replica};

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_knows_the_capture_of_another_configuration() {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
    let table = "CREATE TABLE entry (id bigint PRIMARY KEY, note text);
        INSERT INTO entry SELECT n, '初始' || n FROM generate_series(1, 100) n";
    client.batch_execute(table).await.unwrap();
    let owner = &source.name;
    let stream = format!(
        "[department.{owner}]\nname = \"市公安局\"\n[stream.entry]\nowner = \"{owner}\"\ncontract = \"entry.avsc\"\n"
    );
    let capturing = format!(
        r#"{stream}
[store.source.postgres]
url = "{}"
[capture.register]
from = "source"
tables = {{ "public.entry" = "entry" }}
watermark_interval = "1s"
"#,
        source.url
    );
    let subscribing = format!(
        r#"{stream}capture = "register"
[department.renshe]
name = "市人社局"
[store.share.postgres]
url = "{}"
[subscription.entries]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "note"]
into = {{ store = "share", table = "share.entry" }}
"#,
        share.url
    );
    let first = Installation::new(Bus::Kafka, owner, &capturing).await;
    let second = Installation::new(Bus::Kafka, owner, &subscribing).await;
    for installation in [&first, &second] {
        installation.write("entry.avsc", CONTRACT);
        installation.ask(&["check"]).expect(0);
    }

    let (captures, subscribes) = (first.run(), second.run());

    let columns = ["id", "note"].iter().map(|c| Expected::same(c)).collect();
    let entries = Projection { from: "entry".into(), columns };
    entries.reached(&client, &Replica::Postgres(&replica, "share.entry")).await;
    // Only the capture's watermarks tell that nothing is missing although nothing comes.
    until("every lane is fresh", async || {
        let lanes = second.lanes()?;
        let fresh = lanes.iter().all(|lane| lane["state"] == "running" && lane["lag_seconds"] == 0.0);
        (lanes.len() == 4 && fresh).then_some(())
    })
    .await;
    captures.stop().await;
    subscribes.stop().await;
}
