//! A department's registers in PostgreSQL, and transactions that keep changing them.
//!
//! People who cannot exist (province 99), a table of marriages with Chinese names and a key of two columns,
//! and `every_type`.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::every_type;

/// The numbers of people and ids from which chance takes.
const SPACE: usize = 6_000;

const PEOPLE: &str = "
    CREATE FUNCTION citizen(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        WITH body AS (SELECT '990101' || to_char(date '1950-01-01' + n % 20000, 'YYYYMMDD')
                             || lpad((n / 20000 % 1000)::text, 3, '0') AS s)
        SELECT s || substr('10X98765432', (SELECT sum(substr(s, i::int, 1)::int * w) % 11
            FROM unnest(ARRAY[7,9,10,5,8,4,2,1,6,3,7,9,10,5,8,4,2]) WITH ORDINALITY u(w, i))::int + 1, 1) FROM body $$;
    CREATE TABLE population_base (
        gmsfhm varchar(18) PRIMARY KEY, xm varchar(50) NOT NULL, cym varchar(50), xbdm char(1) NOT NULL,
        mzdm char(2) NOT NULL, csrq date NOT NULL, hjdz_xzqh char(6) NOT NULL, hjdz varchar(100) NOT NULL,
        jzdz_xzqh char(6) NOT NULL, jzdz varchar(100) NOT NULL, hh varchar(9) NOT NULL, yhzgx char(2) NOT NULL,
        hyzk char(2) NOT NULL, whcd char(2) NOT NULL, lxdh varchar(20), zp_ref varchar(64), pcs_dm char(12) NOT NULL,
        rkzt varchar(2) NOT NULL, swrq date, gxsj timestamptz NOT NULL, secret_note text DEFAULT 'never leaves');
    ALTER TABLE population_base REPLICA IDENTITY FULL;";

const MARRIAGES: &str = r#"
    CREATE SCHEMA "民政";
    CREATE TABLE "民政"."婚姻登记" (
        "证件号" varchar(30), "序号" int, "姓名" varchar(50), "登记日期" date, "金额" numeric(12,2), "备注" text,
        "A ""quoted"" Name" text, PRIMARY KEY ("证件号", "序号"));
    ALTER TABLE "民政"."婚姻登记" ALTER "备注" SET STORAGE EXTERNAL;"#;

/// The reviewed contract of the marriages.
pub(crate) const MARRIAGE_CONTRACT: &str = r#"{
  "type": "record", "name": "marriage", "doc": "A registered marriage.", "title": "婚姻登记",
  "sharing": "unconditional", "key": ["cert_no", "number"],
  "fields": [
    {"name": "cert_no", "column": "证件号", "type": {"type": "string", "length": 30}},
    {"name": "number", "column": "序号", "type": "int"},
    {"name": "name", "column": "姓名", "type": ["null", {"type": "string", "length": 50}], "default": null},
    {"name": "day", "column": "登记日期", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
    {"name": "fee", "column": "金额", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": null},
    {"name": "note", "column": "备注", "type": ["null", "string"], "default": null},
    {"name": "quoted", "column": "A \"quoted\" Name", "type": ["null", "string"], "default": null}
  ]
}"#;

/// The columns of the marriages.
pub(crate) const MARRIAGE_COLUMNS: [&str; 7] =
    ["证件号", "序号", "姓名", "登记日期", "金额", "备注", "A \"quoted\" Name"];

/// Creates the registers with `people` people, as many marriages, and a few rows of every type.
pub(crate) async fn create(source: &Client, people: usize) {
    create_people(source, people).await;
    source.batch_execute(MARRIAGES).await.unwrap();
    source.batch_execute(&every_type::table()).await.unwrap();
    source.batch_execute(&insert_marriages("初", people)).await.unwrap();
    let rows: Vec<String> = (0..60).map(|n| every_type::insert(n, n)).collect();
    source.batch_execute(&rows.join(";")).await.unwrap();
}

/// Creates the register of people alone.
pub(crate) async fn create_people(source: &Client, people: usize) {
    source.batch_execute(PEOPLE).await.unwrap();
    source.batch_execute(&insert_people(0, people, 3)).await.unwrap();
}

/// Inserts `count` people, every `step`-th number from `first` on.
pub(crate) fn insert_people(first: usize, count: usize, step: usize) -> String {
    format!(
        "INSERT INTO population_base SELECT citizen(n),
            (ARRAY['张三', '欧阳无名', '李四', '某某某'])[n % 4 + 1], CASE n % 5 WHEN 0 THEN '曾用' END, '1', '01',
            date '1950-01-01' + n % 20000, '990101', '无省无市无县无名路' || n || '号', '990101', '无省无市无县无名路1号',
            lpad(n::text, 9, '0'), '01', '10', '20', CASE n % 3 WHEN 0 THEN '1380000' || lpad((n % 10000)::text, 4, '0') END,
            NULL, '990101000001', CASE n % 6 WHEN 0 THEN '注销' ELSE '正常' END, NULL,
            timestamptz '2026-01-01 00:00:00+08' + n * interval '1.000001 s'
        FROM generate_series({first}, {}, {step}) n ON CONFLICT DO NOTHING",
        first + (count.max(1) - 1) * step
    )
}

/// Inserts `count` marriages under certificates of their own; every hundredth has a note that is stored apart.
pub(crate) fn insert_marriages(prefix: &str, count: usize) -> String {
    format!(
        r#"INSERT INTO "民政"."婚姻登记" SELECT '{prefix}' || n, n % 7, '某某', date '2026-01-01' + n % 300, n * 1.01,
            CASE n % 100 WHEN 0 THEN repeat('备注' || n, 2000) ELSE '备注' END, 'q"' || n
        FROM generate_series(1, {count}) n ON CONFLICT DO NOTHING"#
    )
}

/// Changes the registers in transactions, some of them rolled back; what another one has locked is left alone.
pub(crate) async fn change(client: &Client, seed: u64, transactions: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    client.batch_execute("SET deadlock_timeout = '50ms'").await.unwrap();
    for _ in 0..transactions {
        let end = if rng.random_bool(0.15) { "ROLLBACK" } else { "COMMIT" };
        let statements: Vec<String> = (0..rng.random_range(1..6)).map(|_| statement(&mut rng)).collect();
        let sql = format!("BEGIN; {}; {end}", statements.join("; "));
        if let Err(error) = client.batch_execute(&sql).await {
            // Two writers chose the same new key, or waited for each other: it is as if this one had not begun.
            let code = error.code().unwrap_or_else(|| panic!("{sql}: {error:?}")).code().to_owned();
            assert!(matches!(code.as_str(), "23505" | "40P01"), "{sql}: {error:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
}

fn statement(rng: &mut StdRng) -> String {
    let n = rng.random_range(0..SPACE);
    let few = rng.random_range(1..5);
    let people = format!(
        "gmsfhm IN (SELECT gmsfhm FROM population_base WHERE gmsfhm >= citizen({n}) ORDER BY gmsfhm LIMIT {few} FOR UPDATE SKIP LOCKED)"
    );
    let marriages = format!(
        r#"("证件号", "序号") IN (SELECT "证件号", "序号" FROM "民政"."婚姻登记"
            WHERE "证件号" >= '初' || {n} ORDER BY "证件号", "序号" LIMIT {few} FOR UPDATE SKIP LOCKED)"#
    );
    let id = rng.random_range(0..120);
    match rng.random_range(0..14) {
        0 | 1 => insert_people(n, few, 1),
        2 | 3 => {
            let state = ["正常", "死亡", "迁出", "注销", "失踪"][n % 5];
            format!(
                "UPDATE population_base SET rkzt = '{state}', swrq = CASE '{state}' WHEN '死亡' THEN date '2026-02-03' END WHERE {people}"
            )
        }
        4 => format!("UPDATE population_base SET lxdh = '13900{n:06}' WHERE {people}"),
        5 => format!("UPDATE population_base SET secret_note = 'note {n}' WHERE {people}"),
        6 => format!("DELETE FROM population_base WHERE {people}"),
        7 => format!(
            "UPDATE population_base SET gmsfhm = citizen({n} + 20000 * {few}) WHERE gmsfhm = (SELECT min(gmsfhm) FROM population_base WHERE gmsfhm >= citizen({n}))"
        ),
        8 => insert_marriages(&format!("续{}", n % 50), few),
        // The note is not told again: it must not get lost.
        9 => {
            format!(r#"UPDATE "民政"."婚姻登记" SET "金额" = "金额" + 0.01, "姓名" = NULL WHERE {marriages}"#)
        }
        10 => format!(r#"UPDATE "民政"."婚姻登记" SET "序号" = "序号" + 7 WHERE {marriages}"#),
        11 => format!(r#"DELETE FROM "民政"."婚姻登记" WHERE {marriages}"#),
        12 => format!("{}; {}", every_type::insert(id, n), every_type::update(rng.random_range(0..120), n)),
        _ => format!("DELETE FROM every_type WHERE id = {id}; {}", every_type::update((id + 1) % 120, n)),
    }
}
