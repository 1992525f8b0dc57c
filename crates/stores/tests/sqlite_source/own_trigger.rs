//! Triggers of the department that write the captured table themselves.

use super::*;

/// Triggers of a department that write the very table whose change fires them.
pub(crate) const TRIGGERS: [&str; 4] = [
    "CREATE TRIGGER own AFTER INSERT ON people BEGIN UPDATE people SET note = 'own' || id WHERE id = NEW.id; END",
    "CREATE TRIGGER own AFTER UPDATE OF code ON people BEGIN UPDATE people SET note = 'own' || id WHERE id = NEW.id; END",
    "CREATE TRIGGER own BEFORE INSERT ON people BEGIN UPDATE people SET note = 'own' || id WHERE code = NEW.code; END",
    "CREATE TRIGGER own BEFORE UPDATE OF code ON people BEGIN UPDATE people SET note = 'own' || id WHERE code = NEW.code; END",
];

#[tokio::test]
async fn i3_rows_replaced_under_a_departments_own_trigger_are_deleted() {
    for (trigger, before) in TRIGGERS.into_iter().flat_map(|t| [(t, true), (t, false)]) {
        for table in TABLES {
            let office = Office::new(table);
            let own = || office.run(trigger).unwrap();
            if before {
                own();
            }
            office.install();
            if !before {
                own();
            }
            office.run("INSERT INTO people (id, code, note) VALUES (1, 'x', 'p'), (2, 'y', 'q')").unwrap();
            let mut source = office.open(&Checkpoint::default()).await;
            let mut replica = Replica { nested: true, ..Replica::default() };
            replica.catch_up(&mut source).await;
            for sql in [
                "INSERT OR REPLACE INTO people (id, code, note) VALUES (9, 'y', 'q')",
                "INSERT OR REPLACE INTO people (id, code, note) VALUES (9, 'z', 'q'), (9, 'x', 'p')",
                "INSERT OR IGNORE INTO people (id, code, note) VALUES (9, 'x', 'own'), (4, 'v', 'v')",
                "UPDATE OR REPLACE people SET code = 'x', note = 'own' WHERE id = 4",
                "INSERT OR REPLACE INTO people (id, code, note) VALUES (4, 'x', 'own'), (5, 'X', 'own')",
            ] {
                let _ = office.run(sql);
                replica.catch_up(&mut source).await;
                assert_eq!(replica.rows, office.rows(), "{sql}\n{trigger}\n{table}\nbefore: {before}");
            }
        }
    }
}

#[tokio::test]
async fn a_departments_own_trigger_that_changes_the_row_is_captured() {
    for before in [true, false] {
        let office = Office::new(TABLES[0]);
        let stamp = "CREATE TRIGGER stamp AFTER INSERT ON people BEGIN \
                     UPDATE people SET note = 'stamped' WHERE id = NEW.id; END";
        if before {
            office.run(stamp).unwrap();
        }
        office.install();
        if !before {
            office.run(stamp).unwrap();
        }
        let mut source = office.open(&Checkpoint::default()).await;
        office.run("INSERT INTO people (id, code) VALUES (1, 'x')").unwrap();
        let last = loop {
            let batch = source.next().await.unwrap().unwrap();
            if let Some(last) = batch.changes.last() {
                break last.after.clone().unwrap();
            }
        };
        assert_eq!(last[2], Value::text("stamped"), "made before: {before}");
    }
}

/// SQLite's triggers see the row as it was before both, so the way from one change to the next must be told.
#[tokio::test]
async fn i5_what_a_before_trigger_makes_of_its_own_row_does_not_stay() {
    for (when, last, op) in [
        ("UPDATE OF code", "UPDATE people SET code = 'x', note = 'p' WHERE id = 1", Op::Update),
        ("UPDATE OF code", "UPDATE people SET code = 'z', note = 'q' WHERE id = 1", Op::Update),
        ("DELETE", "DELETE FROM people WHERE id = 1", Op::Delete),
    ] {
        let office = Office::installed(TABLES[0]);
        office.run("INSERT INTO people (id, code, note) VALUES (1, 'x', 'p')").unwrap();
        let own = format!(
            "CREATE TRIGGER own BEFORE {when} ON people BEGIN UPDATE people SET note = 'own' WHERE id = OLD.id; END"
        );
        office.run(&own).unwrap();
        // A reader that stops between the two changes looks back on the first.
        for changes in [1, 100] {
            let mut source = sqlite::Source::new(SourceConfig {
                limit: sqlite::Limits { changes, ..office.config().limit },
                ..office.config()
            });
            source.open(&Checkpoint::default()).await.unwrap();
            let mut replica = Replica::default();
            replica.catch_up(&mut source).await;
            office.run("BEGIN").unwrap();
            office.run(last).unwrap();
            office.run("COMMIT").unwrap();
            replica.catch_up(&mut source).await;
            assert_eq!(replica.rows, office.rows(), "{last}, {changes} at a time");
            assert_eq!(replica.log.last(), Some(&op.letter()));
            office.run("INSERT OR REPLACE INTO people (id, code, note) VALUES (1, 'x', 'p')").unwrap();
        }
    }
}
