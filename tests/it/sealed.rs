//! Sealed columns from end to end: no file of the bus holds a value, and replicas hold it in the clear; over both buses,
//! by a snapshot and by the stream, and through a kill.

use std::fs;
use std::path::Path;
use std::process::Command;

use hutong_testkit::launch::{Database, Kafka, Postgres, connect, free_port};
use tokio_postgres::Client;

use crate::cli::ended;
use crate::installation::{Bus, Installation, until};
use crate::replica::{Expected, Projection, Replica};

/// What is looked for: in the key, in a column that is sealed by its classification, in one by its own word, and in one
/// that is not sealed, by which the search is known to find something.
const PLANTED: [&str; 4] = ["99Kq7Xw3Zj", "Nv4Tb8Ry1m", "Ph6Lc2Gd9s", "St5Ju0Ek7f"];

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","seal":["personal"],"key":["id"],
    "fields":[{"name":"id","type":"string","classification":"personal"},
    {"name":"name","type":["null","string"],"classification":"personal"},
    {"name":"phone","type":["null","string"],"sealed":true},{"name":"state","type":["null","string"]},
    {"name":"version","type":"long"}]}"#;

fn configuration(owner: &str, source: &Database) -> String {
    let subscription = |name: &str, columns: &str, rest: &str| {
        format!(
            "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n{rest}\
             columns = [{columns}]\ninto = {{ store = \"{name}\", table = \"entry\" }}\n\
             [store.{name}.sqlite]\npath = \"{name}.db\"\n"
        )
    };
    let whole = subscription("whole", "\"id\", \"name\", \"phone\", \"state\", \"version\"", "");
    let few = subscription("few", "\"id\", \"version\"", &format!("rows = \"phone <> '{}0'\"\n", PLANTED[2]));
    format!(
        "[department.{owner}]\nname = \"市公安局\"\n[department.renshe]\nname = \"市人社局\"\n\
         [sealing]\nkeys = {{ {owner} = \"owner.seal\" }}\n[store.source.postgres]\nurl = \"{}\"\n\
         [stream.entry]\nowner = \"{owner}\"\ncontract = \"entry.avsc\"\npartitions = 2\n\
         [capture.{owner}]\nfrom = \"source\"\ntables = {{ \"public.entry\" = \"entry\" }}\nchunk_rows = 20\n\
         watermark_interval = \"500ms\"\n{whole}{few}",
        source.url,
    )
}

struct Town {
    client: Client,
    installation: Installation,
    bus: Bus,
}

impl Town {
    async fn new(bus: Bus) -> Self {
        let source = Postgres::shared().await.unwrap();
        let client = connect(&source.url).await.unwrap();
        let [id, name, phone, state] = PLANTED;
        let table = format!(
            "CREATE TABLE entry (id text PRIMARY KEY, name text, phone text, state text, version bigint NOT NULL);
             ALTER TABLE entry REPLICA IDENTITY FULL;
             INSERT INTO entry SELECT '{id}' || n, '{name}' || n, '{phone}' || n % 3, '{state}', n
             FROM generate_series(1, 50) n"
        );
        client.batch_execute(&table).await.unwrap();
        let text = configuration(&source.name, &source);
        let installation = Installation::new(bus, &source.name, &text).await;
        installation.write("entry.avsc", CONTRACT);
        let problems = installation.ask(&["check"]);
        assert_eq!(problems.code, 0, "a key is a secret, and a check needs none: {}", problems.out);
        let public = installation.ask(&["ledger", "keygen", "--sealing", "owner.seal"]).expect(0);
        assert!(public.starts_with("x25519:"), "{public}");
        installation.write("owner.pub", public.trim());
        Self { client, installation, bus }
    }

    /// Waits until both replicas hold what the register does.
    async fn equal(&self) {
        let columns = |names: &[&str]| names.iter().map(|name| Expected::same(name)).collect();
        let whole = Projection {
            from: "entry".into(),
            columns: columns(&["id", "name", "phone", "state", "version"]),
        };
        let few = Projection {
            from: format!("entry WHERE phone <> '{}0'", PLANTED[2]),
            columns: columns(&["id", "version"]),
        };
        for (name, projection) in [("whole", whole), ("few", few)] {
            let file = self.installation.path(&format!("{name}.db"));
            projection.reached(&self.client, &Replica::Sqlite(&file, "entry")).await;
        }
    }

    /// Does everything that can happen to a row, more than once.
    async fn works(&self, round: u32) {
        let [id, name, phone, state] = PLANTED;
        let first = 1_000 * round;
        let sql = format!(
            "INSERT INTO entry SELECT '{id}' || n, CASE WHEN n % 4 = 0 THEN NULL ELSE '{name}' || n END, '{phone}' || n % 3,
             '{state}', n FROM generate_series({first}, {first} + 30) n;
             UPDATE entry SET name = '{name}新' || version, version = version + 100000 WHERE version % 5 = {round};
             UPDATE entry SET phone = '{phone}0' WHERE version % 7 = 1;
             UPDATE entry SET phone = '{phone}1' WHERE version % 7 = 2;
             UPDATE entry SET id = id || 'b' WHERE version % 11 = 3;
             DELETE FROM entry WHERE version % 13 = 4;"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    /// Asserts that no file of the bus holds a sealed value, and that one holds a value that is not sealed.
    async fn hides(&self) {
        let folder = match self.bus {
            Bus::Embedded => self.installation.path("bus"),
            Bus::Kafka => Kafka::shared().await.unwrap().folder().to_owned(),
        };
        let [id, name, phone, state] = PLANTED.map(|planted| found(&folder, planted));
        assert!(id.is_empty() && name.is_empty() && phone.is_empty(), "{id} {name} {phone}");
        assert!(!state.is_empty(), "the search finds what is not sealed");
        let log = fs::read_to_string(self.installation.path("hutong.log")).unwrap();
        assert!(PLANTED[..3].iter().all(|planted| !log.contains(planted)), "nor does a log");
    }
}

/// Returns the files of a folder that hold a text; a broker's indexes, which hold numbers only, are left out.
fn found(folder: &Path, text: &str) -> String {
    // Without optimization a search of our own takes minutes. Of a broker's files some go while it looks.
    let mut grep = Command::new("grep");
    grep.args(["-rlasF", "--exclude=*index", text]).arg(folder);
    ended(grep).out
}

async fn i5_sealed_values_are_on_no_disk_of_the_bus(bus: Bus) {
    let town = Town::new(bus).await;

    // The snapshot, then the stream, then a death, and what happened meanwhile.
    let run = town.installation.run();
    town.equal().await;
    town.works(1).await;
    town.equal().await;
    run.kill();
    town.works(2).await;
    let run = town.installation.run();
    town.equal().await;
    town.hides().await;

    // A replica holds what is granted and nothing else.
    // What is committed and not yet moved into the file stands beside it.
    let few = ["few.db", "few.db-wal"].map(|name| fs::read(town.installation.path(name)).unwrap_or_default());
    let few = few.concat();
    let holds = |planted: &str| few.windows(planted.len()).any(|part| part == planted.as_bytes());
    assert!(holds(PLANTED[0]), "the search finds what was granted");
    for planted in &PLANTED[1..] {
        assert!(!holds(planted), "{planted} was not granted");
    }

    // Where the owner's key is, a person may look; where it is not, nothing is shown and nothing runs.
    let changes = town.installation.tap("entry", |changes| changes.len() > 50).await;
    assert!(changes.iter().all(|change| change.to_string().contains(PLANTED[0])), "{:?}", changes[0]);
    run.stop().await;
    let text = fs::read_to_string(town.installation.path("hutong.toml")).unwrap();
    let (head, rest) = text.split_once("[sealing]\n").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    town.installation.write("shut.toml", &format!("{head}{rest}"));
    let shut = town.installation.ask(&["-c", "shut.toml", "check"]);
    let told = format!("{}{}", shut.out, shut.err);
    assert!(shut.code == 4 && told.contains("is sealed"), "{told}");
    let refused = town.installation.ask(&["verify", "whole"]);
    assert!(refused.code != 0 && refused.err.contains("are sealed"), "{}", refused.err);
    town.hides().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_sealed_values_are_on_no_disk_of_the_embedded_bus_and_arrive_in_the_clear() {
    i5_sealed_values_are_on_no_disk_of_the_bus(Bus::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_sealed_values_are_on_no_disk_of_a_broker_and_arrive_in_the_clear() {
    i5_sealed_values_are_on_no_disk_of_the_bus(Bus::Kafka).await;
}

/// A department with a process and a key of its own opens what it is granted in every row; when the grant is taken back,
/// what comes afterwards stays shut for it.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_department_opens_its_columns_by_its_own_key_until_the_grant_is_taken_back() {
    let town = Town::new(Bus::Kafka).await;
    let installation = &town.installation;
    installation.announce(&["will open again"]);
    let text = fs::read_to_string(installation.path("hutong.toml")).unwrap();
    let keygen =
        |file| installation.ask(&["ledger", "keygen", "--sealing", file]).expect(0).trim().to_owned();
    let (renshe, _) = (keygen("renshe.seal"), keygen("stranger.seal"));
    let (head, rest) = text.split_once("[sealing]\nkeys = { ").unwrap();
    let (owner, rest) = rest.split_once(" = \"owner.seal\" }\n").unwrap();
    let (before, rest) = rest.split_once(&format!("[capture.{owner}]\n")).unwrap();
    let (_, subscriptions) = rest.split_once("[subscription.whole]\n").unwrap();
    let (whole, _) = subscriptions.split_once("[subscription.few]\n").unwrap();
    let whole = format!("[subscription.whole]\n{whole}");
    let public =
        format!("[sealing]\nkeys = {{ {owner} = \"owner.seal\" }}\npublic = {{ renshe = \"{renshe}\" }}\n");
    installation
        .write("hutong.toml", &format!("{head}{public}{before}{}{whole}", capture_table(&text, owner)));
    // What the department runs: no capture, no key of the owner.
    let owners = fs::read_to_string(installation.path("owner.pub")).unwrap();
    let theirs = |key: &str| {
        let head = head.replace(&installation.address(), &format!("127.0.0.1:{}", free_port()));
        let sealing =
            format!("[sealing]\nkeys = {{ renshe = \"{key}\" }}\npublic = {{ {owner} = \"{owners}\" }}\n");
        let before = before.replace("partitions = 2\n", &format!("partitions = 2\ncapture = \"{owner}\"\n"));
        format!("{head}{sealing}{before}{whole}")
    };
    installation.write("renshe.toml", &theirs("renshe.seal"));
    installation.write("stranger.toml", &theirs("stranger.seal"));
    for file in ["hutong.toml", "renshe.toml"] {
        let told = installation.ask(&["-c", file, "check"]);
        assert_eq!(told.code, 0, "{file}: {}{}", told.out, told.err);
    }
    let capture = format!("capture.{owner}");
    let columns = ["id", "name", "phone", "state", "version"];
    let whole = Projection {
        from: "entry".into(),
        columns: columns.iter().map(|name| Expected::same(name)).collect(),
    };
    let file = installation.path("whole.db");

    // Another key opens nothing, and says which epoch it lacks.
    let run = installation.run_only(&[&capture]);
    let stranger = installation.begin(&["-c", "stranger.toml", "run"]);
    until("the stranger is told", async || installation.logged("sealed under epoch 1").then_some(())).await;
    stranger.kill();
    let lanes = installation.begin(&["-c", "renshe.toml", "run"]);
    whole.reached(&town.client, &Replica::Sqlite(&file, "entry")).await;
    town.works(1).await;
    whole.reached(&town.client, &Replica::Sqlite(&file, "entry")).await;
    run.stop().await;

    // The grant is taken out of the owner's configuration: its next start seals under another key.
    installation.write("hutong.toml", &format!("{head}{public}{before}{}", capture_table(&text, owner)));
    let run = installation.run_only(&[&capture]);
    town.client.execute("UPDATE entry SET name = 'afterwards'", &[]).await.unwrap();
    until("the lanes stop", async || installation.logged("sealed under epoch 2").then_some(())).await;
    let held = fs::read(&file).unwrap();
    assert!(!held.windows(10).any(|part| part == b"afterwards"), "nothing of the new epoch has arrived");
    lanes.kill();
    run.stop().await;
    town.hides().await;
}

/// Returns the table of the capture out of a whole configuration.
fn capture_table(text: &str, owner: &str) -> String {
    let (_, rest) = text.split_once(&format!("[capture.{owner}]\n")).unwrap();
    let (table, _) = rest.split_once("[subscription.whole]\n").unwrap();
    format!("[capture.{owner}]\n{table}")
}
