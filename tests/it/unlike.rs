//! Processes that carry subscriptions of the same names and take them for different things: nobody is surprised in silence.

use hutong_testkit::launch::{Postgres, connect};
use serde_json::Value as Json;

use crate::installation::{Bus, Installation, until};

const TABLE: &str = "CREATE TABLE entry (id bigint PRIMARY KEY, note text);
    INSERT INTO entry SELECT n, '初始' || n FROM generate_series(1, 20) n;";

const SAID: &str = "others carry the same subscriptions by another configuration";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_processes_that_share_lanes_by_two_configurations_say_so_until_one_of_them_is_stopped() {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    connect(&source.url).await.unwrap().batch_execute(TABLE).await.unwrap();
    let configuration = |rows: &str| {
        format!(
            "[department.{0}]\nname = \"市公安局\"\n[department.renshe]\nname = \"市人社局\"\n\
             [store.source.postgres]\nurl = \"{1}\"\n[store.share.postgres]\nurl = \"{2}\"\n\
             [stream.entry]\nowner = \"{0}\"\ncontract = \"entry.avsc\"\npartitions = 2\n\
             [capture.{0}]\nfrom = \"source\"\ntables = {{ \"public.entry\" = \"entry\" }}\nwatermark_interval = \"1s\"\n\
             [subscription.shared]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n\
             columns = [\"id\", \"note\"]\n{rows}into = {{ store = \"share\", table = \"share.entry\" }}\n",
            source.name, source.url, share.url
        )
    };
    let bus = Bus::Kafka.table().await;
    let wide = Installation::over(&bus, &source.name, &configuration(""));
    let narrow = Installation::over(&bus, &source.name, &configuration("rows = \"id > 3\"\n"));
    for member in [&wide, &narrow] {
        member.announce(&[SAID, "another process has taken it: gives way"]);
        member.draft_contract(&source.url, "public.entry", "entry");
    }
    let (first, second) = (wide.run(), narrow.run());

    for member in [&wide, &narrow] {
        let unlike = until("each sees the other", async || {
            let unlike = member.status()?["share"]["unlike"].clone();
            (!unlike.is_null()).then_some(unlike)
        })
        .await;
        assert_eq!(
            (&unlike["count"], &unlike["flows"], &unlike["stores"]),
            (&1.into(), &Json::Bool(true), &Json::Bool(false)),
            "{unlike}"
        );
        assert!(unlike["hosts"][0].as_str().is_some_and(|host| !host.is_empty()), "{unlike}");
        let said = member.ask(&["status"]);
        for part in ["1 other processes carry the same subscriptions", "stop the processes of one of the two"]
        {
            assert!(said.out.contains(part), "{part} in {}", said.out);
        }
        let doctor = member.ask(&["doctor"]);
        let found = doctor.out.lines().any(|line| {
            line.starts_with("FAIL") && line.contains("other processes carry the same subscriptions")
        });
        assert!(found && doctor.code != 0, "{}", doctor.out);
        assert!(member.logged(SAID));
    }

    second.stop().await;
    until("nobody differs any more", async || wide.status()?["share"]["unlike"].is_null().then_some(()))
        .await;
    first.stop().await;
}
