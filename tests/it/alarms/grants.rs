//! What a contract, a grant or a certificate no longer bears is an alarm.

use std::path::Path;
use std::process::Command;

use hutong_testkit::launch::{Postgres, connect};

use super::pager::{DISK, Pager};
use crate::cli::ended;
use crate::installation::{Bus, Installation, until};

const TABLES: &str = "CREATE TABLE entry (id bigint PRIMARY KEY, name text, note text);
    ALTER TABLE entry ALTER note SET STORAGE EXTERNAL;
    CREATE TABLE other (id bigint PRIMARY KEY, size bigint);
    INSERT INTO entry SELECT n, '甲' || n, repeat('记', 9000) FROM generate_series(1, 10) n;
    INSERT INTO other SELECT n, n FROM generate_series(1, 10) n;";

/// Makes a certificate that ends after so many days, under the same name.
fn certify(folder: &Path, days: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=hutong.example", "-days", days, "-keyout", "own.key", "-out", "own.pem"]);
    openssl.current_dir(folder);
    ended(openssl).expect(0);
}

async fn installation(source: &str) -> Installation {
    let rest = format!(
        r#"
[department.gongan]
name = "市公安局"
[department.renshe]
name = "市人社局"
[store.source.postgres]
url = "{source}"
[store.share.sqlite]
path = "share.db"
[stream.entry]
owner = "gongan"
contract = "entry.avsc"
[stream.other]
owner = "gongan"
contract = "other.avsc"
[capture.gongan]
from = "source"
tables = {{ "public.entry" = "entry", "public.other" = "other" }}
watermark_interval = "1s"
[subscription.entries]
department = "renshe"
stream = "entry"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["id", "name"]
rows = "note <> '不共享'"
into = {{ store = "share", table = "entry" }}
"#
    );
    Installation::new(Bus::Embedded, "alarmsgrants", &rest).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_schema_an_undecided_grant_and_a_certificate_near_its_end_are_alarms_that_fire_and_clear() {
    let server = Postgres::start().await.unwrap();
    let client = connect(&server.url()).await.unwrap();
    client.batch_execute(TABLES).await.unwrap();
    // A server without TLS is asked for it all the same, and the certificate is read.
    let installation =
        installation(&format!("{}?sslmode=prefer&sslcert=own.pem&sslkey=own.key", server.url())).await;
    installation.announce(&["quarantined", "table suspended"]);
    for (table, fields) in [
        ("entry", r#"{"name":"name","type":["null","string"]},{"name":"note","type":["null","string"]}"#),
        ("other", r#"{"name":"size","type":["null","long"]}"#),
    ] {
        let contract = format!(
            r#"{{"type":"record","name":"{table}","sharing":"unconditional","key":["id"],"fields":[{{"name":"id","type":"long"}},{fields}]}}"#
        );
        installation.write(&format!("{table}.avsc"), &contract);
    }
    certify(&installation.path(""), "60");
    let mut run = installation.run();
    let pager = Pager::of(&installation, &[DISK]).await;
    until("nothing is behind", async || {
        let behind = pager.value("max(hutong_lag_seconds)").await;
        (behind == Some(0.0) && pager.firing().await.is_empty()).then_some(())
    })
    .await;
    let left = "(hutong_certificate_expires_timestamp_seconds{used_for=\"store source\",certificate=\"own\"} - time()) / 86400";
    let days = pager.value(left).await.unwrap();
    assert!((59.9..60.1).contains(&days), "{days} days");

    // The certificate nears its end, and is renewed in its place.
    certify(&installation.path(""), "3");
    pager.fires(&["HutongCertificateEnds store source"]).await;
    certify(&installation.path(""), "90");
    pager.clear().await;

    // A value that the filter asks for is gone before it can be read again.
    client
        .batch_execute(
            "BEGIN; UPDATE entry SET name = '乙' WHERE id = 1; DELETE FROM entry WHERE id = 1; COMMIT",
        )
        .await
        .unwrap();
    pager.fires(&["HutongPolicyError replicate.entries"]).await;
    pager.says(&[("hutong_policy_errors_total", 1.0)]).await;
    pager.clear().await;

    // A column becomes what its contract does not say; the other table goes on.
    client
        .batch_execute("ALTER TABLE other ALTER size TYPE text; INSERT INTO other VALUES (11, '十一')")
        .await
        .unwrap();
    pager.fires(&["HutongSchemaRefused capture.gongan"]).await;
    pager.says(&[("hutong_schemas_refused", 1.0)]).await;
    let dropped = pager.value("hutong_changes_dropped_total{rule=\"suspended\"}").await.unwrap();
    assert!(dropped >= 1.0, "{dropped}");
    client.batch_execute("INSERT INTO entry VALUES (12, '丙', '可')").await.unwrap();
    pager
        .comes("hutong_changes_captured_total{stream=\"entry\",operation=\"insert\"}", |count| count == 1.0)
        .await;
    client
        .batch_execute(
            "DELETE FROM other WHERE id = 11; ALTER TABLE other ALTER size TYPE bigint USING size::bigint",
        )
        .await
        .unwrap();
    run.stop().await;
    run = installation.run();
    pager
        .comes("hutong_changes_captured_total{stream=\"other\",operation=\"read\"}", |count| count == 10.0)
        .await;
    pager.comes("hutong_schemas_refused", |refused| refused == 0.0).await;
    pager.clear().await;
    pager.was_always_sane().await;
    run.stop().await;
}
