//! A department's register and those who change it: short and long transactions at the same time, some rolled back.
//!
//! Knows the source alone. `audit` is what really happened to each key, told by the database and not by its log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hutong_testkit::launch::connect;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// Ids of rows that are there before the capture begins.
pub(super) const ROWS: i64 = 1_500;
/// Ids of the rows that come last: enough of them that every partition has some.
pub(super) const LAST: i64 = 1_000_000_000;
pub(super) const LAST_COUNT: i64 = 64;
/// Ids of the rows of the long transactions.
const LONG: i64 = 10_000_000;

const TABLES: &str = "
    CREATE SEQUENCE versions;
    CREATE SEQUENCE after START 100000;
    CREATE SEQUENCE before INCREMENT -1;
    CREATE TABLE entry (id bigint PRIMARY KEY, version bigint NOT NULL, note text);
    INSERT INTO entry SELECT n, nextval('versions'), '初始' || n FROM generate_series(1, 1500) n;
    CREATE TABLE audit (seq bigserial, op text, id bigint, version bigint);
    CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'TRUNCATE' THEN INSERT INTO audit (op) VALUES ('t'); RETURN NULL; END IF;
        IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
            INSERT INTO audit (op, id, version) VALUES ('u', NEW.id, NEW.version);
            RETURN NULL;
        END IF;
        IF TG_OP IN ('UPDATE', 'DELETE') THEN INSERT INTO audit (op, id) VALUES ('d', OLD.id); END IF;
        IF TG_OP IN ('UPDATE', 'INSERT') THEN
            INSERT INTO audit (op, id, version) VALUES ('c', NEW.id, NEW.version);
        END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION audited();
    CREATE TRIGGER truncated AFTER TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION audited();";

/// The same keys come back in the same transaction.
const TRUNCATE: &str = "BEGIN; TRUNCATE entry;
    INSERT INTO entry SELECT n, nextval('versions'), '再' FROM generate_series(1, 300) n; COMMIT";

/// How long those who change the register wait between two short transactions.
///
/// An office's pace, so that the snapshot catches up with the rows that come after its place.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// Enough that a kill finds the program in the midst of something.
    Quick,
    /// What two cores carry beside several servers.
    Slow,
}

/// Those who change the register.
pub(super) struct Workload {
    seed: u64,
    pause: Duration,
    stopped: AtomicBool,
    /// The columns that the table has got meanwhile; held while the table changes as a whole.
    columns: Mutex<BTreeSet<&'static str>>,
    /// Whether the table may be truncated; held while it is.
    truncates: Mutex<bool>,
}

/// A session that is opened again when the server was away.
struct Session<'a> {
    url: &'a str,
    client: Option<Client>,
}

impl Workload {
    /// Makes the register in an empty database.
    pub(super) async fn new(source: &Client, seed: u64, pace: Pace) -> Self {
        source.batch_execute(TABLES).await.unwrap();
        Self {
            seed,
            pause: Duration::from_millis(match pace {
                Pace::Quick => 10,
                Pace::Slow => 50,
            }),
            stopped: AtomicBool::new(false),
            columns: Mutex::default(),
            truncates: Mutex::new(false),
        }
    }

    /// Changes the register until [`Workload::stop`].
    pub(super) async fn run(&self, url: &str) {
        tokio::join!(self.short(url, self.seed), self.short(url, !self.seed), self.long(url));
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Lets the table be truncated from time to time.
    pub(super) async fn truncates(&self) {
        *self.truncates.lock().await = true;
    }

    /// Truncates the table for the last time.
    pub(super) async fn truncates_no_more(&self, source: &Client) {
        let mut allowed = self.truncates.lock().await;
        source.batch_execute(TRUNCATE).await.unwrap();
        *allowed = false;
    }

    /// Gives the table a column, which changes fill from then on.
    pub(super) async fn add_column(&self, source: &Client, column: &'static str) {
        source.batch_execute(&format!("ALTER TABLE entry ADD COLUMN {column} text")).await.unwrap();
        self.columns.lock().await.insert(column);
    }

    /// Returns a version that is later than everything that has been committed.
    pub(super) async fn now(source: &Client) -> i64 {
        source.query_one("SELECT nextval('versions')", &[]).await.unwrap().get(0)
    }

    /// Writes the rows that come last.
    pub(super) async fn end(source: &Client) {
        let last = format!(
            "INSERT INTO entry SELECT {LAST} + n, nextval('versions'), '末' FROM generate_series(1, {LAST_COUNT}) n"
        );
        source.batch_execute(&last).await.unwrap();
    }

    async fn short(&self, url: &str, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = Session { url, client: None };
        while !self.stopped.load(Ordering::Relaxed) {
            if rng.random_range(0..100) == 0 {
                self.truncate(&mut session).await;
                continue;
            }
            let few = rng.random_range(1..6);
            let some = format!(
                "id IN (SELECT id FROM entry WHERE id >= {} ORDER BY id LIMIT {few} FOR UPDATE SKIP LOCKED)",
                rng.random_range(0..ROWS)
            );
            let filled: String = self.columns.lock().await.iter().fold(String::new(), |text, column| {
                format!("{text}, {column} = '补' || nextval('versions')")
            });
            let statement = match rng.random_range(0..100) {
                // Long enough to be killed in the midst of it.
                0 => "INSERT INTO entry SELECT nextval('before'), nextval('versions'), '多' FROM generate_series(1, 500)".into(),
                n => match n % 6 {
                0 => format!("INSERT INTO entry SELECT nextval('after'), nextval('versions'), '新' FROM generate_series(1, {few})"),
                1 => format!("INSERT INTO entry SELECT nextval('before'), nextval('versions'), '新' FROM generate_series(1, {few})"),
                2 => format!("DELETE FROM entry WHERE {some}"),
                3 => format!("UPDATE entry SET id = nextval('before'), version = nextval('versions') WHERE {some}"),
                _ => format!("UPDATE entry SET version = nextval('versions'){filled} WHERE {some}"),
                },
            };
            let end = if rng.random_bool(0.1) { "ROLLBACK" } else { "COMMIT" };
            session.execute(&format!("BEGIN; {statement}; {end}")).await;
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn truncate(&self, session: &mut Session<'_>) {
        let allowed = self.truncates.lock().await;
        if *allowed {
            session.execute(TRUNCATE).await;
        }
    }

    /// Transactions that last while many others commit.
    async fn long(&self, url: &str) {
        let mut rng = StdRng::seed_from_u64(self.seed.rotate_left(32));
        let mut session = Session { url, client: None };
        let mut own = LONG;
        while !self.stopped.load(Ordering::Relaxed) {
            let (from, to) = (own + 1, own + 200);
            own += 1_000;
            session
                .execute(&format!(
                    "BEGIN; INSERT INTO entry SELECT n, nextval('versions'), '长' FROM generate_series({from}, {to}) n"
                ))
                .await;
            for _ in 0..rng.random_range(1..5) {
                tokio::time::sleep(Duration::from_millis(rng.random_range(20..300))).await;
                let at = rng.random_range(from..to);
                session
                    .execute(&format!(
                        "UPDATE entry SET version = nextval('versions') WHERE id BETWEEN {from} AND {at};
                         DELETE FROM entry WHERE id BETWEEN {at} AND {to}"
                    ))
                    .await;
            }
            session.execute(if rng.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" }).await;
            tokio::time::sleep(self.pause * 10).await;
        }
    }
}

impl Session<'_> {
    /// Executes; whether a server that goes away has committed, the audit tells.
    async fn execute(&mut self, sql: &str) {
        loop {
            let Some(client) = &self.client else {
                match connect(self.url).await {
                    Ok(client) => self.client = Some(client),
                    // Away: whoever makes the outage ends it.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
                continue;
            };
            match client.batch_execute(sql).await {
                Ok(()) => return,
                // 57P0x: the server or the session is shut down.
                Err(error) if error.as_db_error().is_none_or(|db| db.code().code().starts_with("57P")) => {
                    self.client = None;
                    return;
                }
                Err(error) => panic!("{sql}: {error:?}"),
            }
        }
    }
}
