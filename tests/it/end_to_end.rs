//! PostgreSQL through a bus into PostgreSQL and SQLite: three registers that keep changing arrive row by row.

use hutong_testkit::launch::{Database, Postgres, connect};
use serde_json::Value as Json;

use crate::every_type::COLUMNS;
use crate::installation::{Bus, Installation, Run, answered, seed, until};
use crate::register::{self, MARRIAGE_COLUMNS, MARRIAGE_CONTRACT};
use crate::replica::{Expected, Projection, Replica};

/// What the pension office may hold of a person.
const GRANTED: [&str; 6] = ["gmsfhm", "xm", "csrq", "rkzt", "swrq", "lxdh"];

/// How much happens.
struct Scale {
    people: usize,
    writers: u64,
    transactions: usize,
    /// Rows of the one long transaction.
    long: usize,
}

pub(crate) fn configuration(source: &Database, share: &Database) -> String {
    let owner = &source.name;
    let every: Vec<String> =
        std::iter::once("id").chain(COLUMNS.iter().map(|c| c.name)).map(|c| format!("{c:?}")).collect();
    let every = every.join(", ");
    let person = std::fs::read_to_string(crate::cli::root().join("schemas/population_base.avsc")).unwrap();
    let person: Json = serde_json::from_str(&person).unwrap();
    let person: Vec<String> =
        person["fields"].as_array().unwrap().iter().map(|f| f["name"].to_string()).collect();
    let person = person.join(", ");
    let marriage = r#""cert_no", "number", "name", "day", "fee", "note", "quoted""#;
    let mut text = format!(
        r#"
[department.{owner}]
name = "市公安局"
[department.renshe]
name = "市人社局"
[department.weijian]
name = "市卫健委"

[store.source.postgres]
url = "{source}"
[store.share.postgres]
url = "{share}"
[store.office.sqlite]
path = "office.db"

[stream.population_base]
owner = "{owner}"
contract = "population_base.avsc"
[stream.marriage]
owner = "{owner}"
contract = "marriage.avsc"
partitions = 2
[stream.every_type]
owner = "{owner}"
contract = "every_type.avsc"
partitions = 1

[capture.{owner}]
from = "source"
chunk_rows = 200
watermark_interval = "1s"
[capture.{owner}.tables]
"public.population_base" = "population_base"
"民政.婚姻登记" = "marriage"
"every_type" = "every_type"
"#,
        source = source.url,
        share = share.url,
    );
    let granted = GRANTED.map(|c| format!("{c:?}")).join(", ");
    for (name, department, stream, columns, rest, store, table) in [
        (
            "all_people",
            "renshe",
            "population_base",
            person.as_str(),
            r#"clear = ["lxdh", "hjdz", "jzdz"]"#,
            "share",
            "share.people",
        ),
        ("all_marriages", "renshe", "marriage", marriage, "", "share", "share.\\\"婚姻登记\\\""),
        ("all_types", "renshe", "every_type", every.as_str(), "", "share", "share.every_type"),
        (
            "some_people",
            "weijian",
            "population_base",
            granted.as_str(),
            "rows = \"rkzt <> '注销'\"",
            "office",
            "people",
        ),
        ("office_marriages", "weijian", "marriage", marriage, "", "office", "婚姻登记"),
        ("office_types", "weijian", "every_type", every.as_str(), "", "office", "every_type"),
    ] {
        text.push_str(&format!(
            "\n[subscription.{name}]\ndepartment = \"{department}\"\nstream = \"{stream}\"\npurpose = \"核验\"\n\
             legal_basis = \"示例法 第一条\"\nuntil = 2099-12-31\ncolumns = [{columns}]\n{rest}\n\
             into = {{ store = \"{store}\", table = \"{table}\" }}\n"
        ));
    }
    text
}

/// Returns what each replica must hold: subscription's table, and the projection by SQL over the source.
fn projections() -> [(&'static str, &'static str, Projection); 6] {
    let all = |from: &str, columns: Vec<Expected>| Projection { from: from.into(), columns };
    let person = [
        "gmsfhm",
        "xm",
        "cym",
        "xbdm",
        "mzdm",
        "csrq",
        "hjdz_xzqh",
        "hjdz",
        "jzdz_xzqh",
        "jzdz",
        "hh",
        "yhzgx",
        "hyzk",
        "whcd",
        "lxdh",
        "zp_ref",
        "pcs_dm",
        "rkzt",
        "swrq",
        "gxsj",
    ];
    let masked = "CASE WHEN lxdh ~ '^1[0-9]{10}$' THEN left(lxdh, 3) || '****' || right(lxdh, 4) ELSE repeat('*', length(lxdh)) END";
    let mut granted: Vec<Expected> = GRANTED[..5].iter().map(|c| Expected::same(c)).collect();
    granted.push(Expected::of("lxdh", masked));
    let marriage = || MARRIAGE_COLUMNS.iter().map(|c| Expected::same(c)).collect();
    let id = || std::iter::once(Expected::same("id"));
    let exact = id().chain(COLUMNS.iter().map(|c| Expected::of(c.name, &c.postgres()))).collect();
    let kept = id().chain(COLUMNS.iter().map(|c| {
        let name = format!("\"{}\"", c.name);
        Expected { column: c.name.into(), sql: c.sqlite.replace('$', &name), kept: c.kept }
    }));
    // SQLite holds no NaN: such a row waits in its quarantine.
    let types = "every_type WHERE f8 IS DISTINCT FROM 'NaN'";
    [
        ("share", "share.people", all("population_base", person.iter().map(|c| Expected::same(c)).collect())),
        ("share", "share.\"婚姻登记\"", all("\"民政\".\"婚姻登记\"", marriage())),
        ("share", "share.every_type", all("every_type", exact)),
        ("office", "people", all("population_base WHERE rkzt <> '注销'", granted)),
        ("office", "婚姻登记", all("\"民政\".\"婚姻登记\"", marriage())),
        ("office", "every_type", all(types, kept.collect())),
    ]
}

/// Waits until the snapshot is complete, and every lane says that it runs and is behind by nothing.
pub(crate) async fn idle(installation: &Installation) {
    let well = |lane: &Json| {
        // A capture counts the bytes of the log that are left, a replica the changes of its topic.
        let behind = lane["lag_changes"].as_u64().or(lane["lag_bytes"].as_u64());
        let mut snapshots = lane["snapshots"].as_array().into_iter().flatten();
        lane["state"] == "running"
            && lane["error"].is_null()
            && behind == Some(0)
            && lane["lag_seconds"] == 0.0
            && snapshots.all(|table| table["done"] == true)
    };
    let mut unwell = Vec::new();
    let idle = answered(async || {
        let lanes = installation.lanes()?;
        // One capture; twice the partitions of three streams. A program that has just started makes them one by one.
        (lanes.len() == 1 + 2 * (4 + 2 + 1)).then_some(())?;
        unwell = lanes.into_iter().filter(|lane| !well(lane)).collect();
        unwell.is_empty().then_some(())
    });
    assert!(
        idle.await.is_some(),
        "the snapshot is complete, and every lane runs and has no lag, but {unwell:#?}"
    );
}

async fn flows(bus: Bus, scale: Scale) {
    let seed = seed();
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let installation = Installation::new(bus, &source.name, &configuration(&source, &share)).await;
    installation.announce(&["quarantined"]);
    let client = connect(&source.url).await.unwrap();
    register::create(&client, scale.people).await;
    installation.copy_contract("population_base");
    installation.write("marriage.avsc", MARRIAGE_CONTRACT);
    installation.draft_contract(&source.url, "every_type", "every_type");
    installation.ask(&["check"]).expect(0);
    installation.ask(&["check", "--probe"]).expect(0);

    // While the snapshot runs, the registers keep changing.
    let mut run = installation.run();
    let replica = connect(&share.url).await.unwrap();
    until("the first people arrive", async || {
        let people = replica.query_one("SELECT count(*) FROM share.people", &[]).await.ok()?;
        (people.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    let writers = (0..scale.writers).map(async |writer| {
        let client = connect(&source.url).await.unwrap();
        register::change(&client, seed ^ writer, scale.transactions).await;
        if writer == 0 {
            client.batch_execute("TRUNCATE \"民政\".\"婚姻登记\"").await.unwrap();
            client.batch_execute(&long(scale.long)).await.unwrap();
        }
        register::change(&client, !seed ^ writer, scale.transactions).await;
    });
    all(writers).await;
    // What no bus carries, corrected afterwards, and what SQLite does not hold.
    for sql in [
        "INSERT INTO every_type (id, da) VALUES (1001, 'infinity')",
        "UPDATE every_type SET da = '2026-01-01' WHERE id = 1001",
        "INSERT INTO every_type (id, f8) VALUES (1000, 'NaN')",
        "UPDATE every_type SET t = 'x' WHERE id = 1000",
    ] {
        client.batch_execute(sql).await.unwrap();
    }

    compare(&installation, &client, &share).await;
    idle(&installation).await;
    let table = installation.ask(&["status"]).expect(0);
    assert_eq!(table.matches(" running ").count(), 15, "{table}");
    installation.ask(&["contract", "check"]).expect(0);
    waits_only_what_cannot_be_held(&installation, &source.name);
    if bus == Bus::Embedded {
        truncates_every_partition_at_once(&installation).await;
        keeps_to_itself_what_no_contract_names(&installation);
    }
    assert!(run.runs());
    restarts_with_nothing_to_do(&installation, run).await;
    compare(&installation, &client, &share).await;
}

/// One transaction that is longer than a batch: it inserts, changes and removes its own rows.
fn long(rows: usize) -> String {
    format!(
        r#"BEGIN; {}; UPDATE "民政"."婚姻登记" SET "姓名" = '改名' WHERE "证件号" LIKE '一%5';
           DELETE FROM "民政"."婚姻登记" WHERE "证件号" LIKE '一%7'; COMMIT"#,
        register::insert_marriages("一", rows)
    )
}

async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn compare(installation: &Installation, source: &tokio_postgres::Client, share: &Database) {
    let share = connect(&share.url).await.unwrap();
    let office = installation.path("office.db");
    for (store, table, projection) in projections() {
        let replica =
            if store == "share" { Replica::Postgres(&share, table) } else { Replica::Sqlite(&office, table) };
        let rows = projection.reached(source, &replica).await;
        assert!(rows > 10, "{table} of {store} has {rows} rows: too few to prove anything");
    }
}

/// I3: what cannot be carried is set aside, and nothing else is.
fn waits_only_what_cannot_be_held(installation: &Installation, capture: &str) {
    let items = |pipeline: &str| -> Vec<Json> {
        serde_json::from_str(&installation.ask(&["quarantine", "list", pipeline, "-o", "json"]).expect(0))
            .unwrap()
    };
    let refused = items(capture);
    assert_eq!(refused.len(), 1, "only the date that is infinite: {refused:#?}");
    assert!(
        refused[0]["rule"] == "not_carried" && refused[0]["reason"].as_str().unwrap().contains("da"),
        "{refused:#?}"
    );
    for subscription in
        ["all_people", "all_marriages", "all_types", "some_people", "office_marriages", "office_types"]
    {
        let items = items(subscription);
        let waiting: Vec<&Json> = items.iter().filter(|item| item["state"] == "waiting").collect();
        if subscription == "office_types" {
            assert!(!waiting.is_empty(), "the row with NaN waits");
            assert!(waiting.iter().all(|item| item["change"]["after"]["id"] == 1000), "{waiting:#?}");
        } else {
            assert!(waiting.is_empty(), "{subscription}: {waiting:#?}");
        }
    }
}

async fn truncates_every_partition_at_once(installation: &Installation) {
    let truncates = |changes: &[Json]| -> Vec<Json> {
        changes
            .iter()
            .filter(|change| change["op"] == "t")
            .map(|change| change["source_position"].clone())
            .collect()
    };
    let changes = installation.tap("marriage", |changes| truncates(changes).len() == 2).await;
    let positions = truncates(&changes);
    assert_eq!(positions[0], positions[1], "one record in each of the two partitions");
}

/// I5: a column that is not in the contract never leaves its department, not even into the bus.
fn keeps_to_itself_what_no_contract_names(installation: &Installation) {
    let mut bus = Vec::new();
    for entry in std::fs::read_dir(installation.path("bus")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            bus.extend(std::fs::read(path).unwrap());
        }
    }
    let holds = |text: &str| bus.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("欧阳无名"), "what the contract names is there to be read");
    assert!(!holds("never leaves"));
}

async fn restarts_with_nothing_to_do(installation: &Installation, run: Run) {
    run.stop().await;
    let run = installation.run();
    idle(installation).await;
    let committed: u64 =
        installation.lanes().unwrap().iter().map(|lane| lane["committed"].as_u64().unwrap()).sum();
    assert_eq!(committed, 0, "I2: nothing is applied twice after a restart");
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i4_i5_i6_postgres_over_kafka_reaches_postgres_and_sqlite_row_by_row() {
    flows(Bus::Kafka, Scale { people: 3_000, writers: 4, transactions: 40, long: 52_000 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i4_i5_i6_postgres_over_a_folder_reaches_postgres_and_sqlite_row_by_row() {
    flows(Bus::Embedded, Scale { people: 600, writers: 3, transactions: 15, long: 2_000 }).await;
}
