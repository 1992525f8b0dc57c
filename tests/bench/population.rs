//! The register that is measured: people who cannot exist, in 21 columns of every common type.

use std::path::Path;

use hutong_testkit::launch::{Kafka, Registry};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

/// The columns, in their order.
pub(crate) const COLUMNS: [&str; 21] = [
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
    "jzmj",
];

/// How many divisions the people live in.
pub(crate) const DIVISIONS: usize = 50;

const TABLE: &str = "
    gmsfhm varchar(18) PRIMARY KEY, xm varchar(50) NOT NULL, cym varchar(50), xbdm varchar(1) NOT NULL,
    mzdm varchar(2) NOT NULL, csrq date NOT NULL, hjdz_xzqh varchar(6) NOT NULL, hjdz varchar(100) NOT NULL,
    jzdz_xzqh varchar(6) NOT NULL, jzdz varchar(100) NOT NULL, hh varchar(9) NOT NULL, yhzgx varchar(2) NOT NULL,
    hyzk varchar(2) NOT NULL, whcd varchar(2) NOT NULL, lxdh varchar(20), zp_ref varchar(64),
    pcs_dm varchar(12) NOT NULL, rkzt varchar(2) NOT NULL, swrq date, gxsj timestamptz NOT NULL,
    jzmj numeric(10,2) NOT NULL";

/// Returns a statement that creates a table of such people.
pub(crate) fn table(name: &str) -> String {
    format!("CREATE TABLE {name} ({TABLE})")
}

/// Creates and fills the register.
pub(crate) async fn create(client: &Client, people: usize) {
    let sql = format!(
        "CREATE FUNCTION citizen(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
            WITH body AS (SELECT '990101' || to_char(date '1950-01-01' + n % 20000, 'YYYYMMDD')
                                 || lpad((n / 20000 % 1000)::text, 3, '0') AS s)
            SELECT s || substr('10X98765432', (SELECT sum(substr(s, i::int, 1)::int * w) % 11
                FROM unnest(ARRAY[7,9,10,5,8,4,2,1,6,3,7,9,10,5,8,4,2]) WITH ORDINALITY u(w, i))::int + 1, 1)
            FROM body $$;
        {};
        INSERT INTO population_base SELECT citizen(n),
            (ARRAY['张三', '欧阳无名', '李四', '某某某'])[n % 4 + 1], CASE n % 5 WHEN 0 THEN '曾用' END, (n % 2 + 1)::text,
            '01', date '1950-01-01' + n % 20000, '990101', '无省无市无县无名路' || n || '号',
            '9901' || lpad((n % {DIVISIONS} + 1)::text, 2, '0'), '无省无市无县无名路' || n / 4 || '号院' || n % 30 || '单元',
            lpad(n::text, 9, '0'), '01', '10', '20', CASE n % 3 WHEN 0 THEN '1380000' || lpad((n % 10000)::text, 4, '0') END,
            NULL, '990101000001', CASE n % 6 WHEN 0 THEN '注销' ELSE '正常' END,
            CASE n % 11 WHEN 0 THEN date '2026-01-01' + n % 300 END,
            timestamptz '2026-01-01 00:00:00+08' + n * interval '1.000001 s', n % 20000 / 100.0
        FROM generate_series(1, {people}) n ORDER BY 1;
        VACUUM ANALYZE population_base",
        table("population_base")
    );
    for statement in sql.split(";\n") {
        client.batch_execute(statement).await.unwrap();
    }
}

/// Changes every person once, in transactions of a thousand rows.
pub(crate) async fn update(client: &Client, people: usize, round: usize) {
    let step = 1_000;
    for first in (1..=people).step_by(step) {
        let sql = format!(
            "UPDATE population_base SET hh = lpad(({round} * 1000000 + n)::text, 9, '0'), jzmj = jzmj + 0.01,
                    gxsj = timestamptz '2026-06-01 00:00:00+08' + n * interval '1.000001 s'
             FROM (SELECT n, citizen(n) AS id FROM generate_series({first}, {}) n) AS t WHERE gmsfhm = t.id",
            (first + step - 1).min(people)
        );
        client.batch_execute(&sql).await.unwrap();
    }
}

/// Writes a folder with the contract and a configuration over Kafka.
pub(crate) fn configure(folder: &Path, kafka: &Kafka, registry: &Registry, source: &str, share: &str) {
    let text = std::fs::read_to_string(hutong_tests::root().join("schemas/population_base.avsc")).unwrap();
    let mut contract: Json = serde_json::from_str(&text).unwrap();
    contract["fields"].as_array_mut().unwrap().push(json!({
        "name": "jzmj", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
        "title": "居住面积", "item_type": "N", "classification": "personal", "doc": "Square metres lived on."
    }));
    std::fs::write(folder.join("population_base.avsc"), contract.to_string()).unwrap();
    let columns = COLUMNS.map(|c| format!("{c:?}")).join(", ");
    let mut config = format!(
        r#"
[bus.kafka]
brokers = "{}"
registry = "{}"
[department.gongan]
name = "市公安局"
[department.renshe]
name = "市人社局"
[store.source.postgres]
url = "{source}"
[store.share.postgres]
url = "{share}"
[store.office.sqlite]
path = "office.db"
[stream.population_base]
owner = "gongan"
contract = "population_base.avsc"
[capture.gongan]
from = "source"
tables = {{ "public.population_base" = "population_base" }}
"#,
        kafka.bootstrap(),
        registry.url()
    );
    let mut subscribe = |name: &str, columns: &str, rest: &str, store: &str, table: &str| {
        config.push_str(&format!(
            "\n[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"population_base\"\npurpose = \"核验\"\n\
             legal_basis = \"示例法 第一条\"\nuntil = 2099-12-31\ncolumns = [{columns}]\n{rest}\n\
             into = {{ store = \"{store}\", table = \"{table}\" }}\n"
        ));
    };
    let clear = r#"clear = ["lxdh", "hjdz", "jzdz"]"#;
    subscribe("people", &columns, clear, "share", "share.people");
    subscribe("office", &columns, clear, "office", "people");
    for n in 1..=DIVISIONS {
        // A street office: the people of its own division.
        let rest = format!("{clear}\nrows = \"jzdz_xzqh = '9901{n:02}'\"");
        subscribe(&format!("street{n}"), &columns, &rest, "share", &format!("share.street{n}"));
    }
    std::fs::write(folder.join("hutong.toml"), config).unwrap();
}

/// Returns how many rows a table has, and a digest that does not depend on their order.
pub(crate) async fn digest(client: &Client, from: &str) -> (i64, String) {
    let columns = COLUMNS.join(", ");
    let sql = format!(
        "SELECT count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint), 0)::text
         FROM (SELECT {columns} FROM {from}) t"
    );
    let row = client.query_one(&sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Panics unless a replica holds what the register holds.
pub(crate) async fn compare(source: &Client, share: &Client, replica: &str, rows: &str) {
    let want = digest(source, &format!("population_base WHERE {rows}")).await;
    let have = digest(share, replica).await;
    assert!(
        want.0 > 0 && want == have,
        "{replica} does not hold what it should: {have:?} instead of {want:?}"
    );
}
