//! Any workload: what the log says makes the table.

use proptest::prelude::*;

use super::*;
use crate::own_trigger::TRIGGERS;

fn statement() -> impl Strategy<Value = String> {
    let or = prop::sample::select(vec!["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"]);
    let id = 0..6_i64;
    let text = || prop::sample::select(vec!["NULL", "'a'", "'A'", "'b'", "'c'"]);
    let session =
        ["PRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers = OFF", "BEGIN", "COMMIT", "ROLLBACK"];
    prop_oneof![
        (or.clone(), id.clone(), text(), text(), id.clone(), text()).prop_map(|(or, i, c, n, j, d)| format!(
            "INSERT {or} INTO people (id, code, note) VALUES ({i}, {c}, {n}), ({j}, {d}, {n})"
        )),
        (or.clone(), id.clone(), text(), text(), id.clone()).prop_map(|(or, i, c, n, j)| format!(
            "UPDATE {or} people SET id = {i}, code = {c}, note = {n} WHERE id >= {j}"
        )),
        (or, id.clone(), text())
            .prop_map(|(or, i, c)| format!("UPDATE {or} people SET code = {c} WHERE id = {i}")),
        (id.clone(), text(), id.clone()).prop_map(|(i, c, j)| format!(
            "INSERT INTO people (id, code) VALUES ({i}, {c}) \
             ON CONFLICT (id) DO UPDATE SET id = {j}, code = excluded.code"
        )),
        id.prop_map(|i| format!("DELETE FROM people WHERE id = {i}")),
        prop::sample::select(session.map(str::to_owned).to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn i3_the_log_of_any_workload_gives_the_table(
        table in prop::sample::select(TABLES.to_vec()),
        own in prop::option::of((prop::sample::select(TRIGGERS.to_vec()), any::<bool>())),
        statements in prop::collection::vec(statement(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let office = Office::new(table);
            office.run("PRAGMA synchronous = OFF").unwrap();
            if let Some((trigger, true)) = own {
                office.run(trigger).unwrap();
            }
            office.install();
            if let Some((trigger, false)) = own {
                office.run(trigger).unwrap();
            }
            let mut source = office.open(&Checkpoint::default()).await;
            let mut replica = Replica { nested: own.is_some(), ..Replica::default() };
            replica.catch_up(&mut source).await;
            // What OR FAIL leaves where it stops within the department's trigger is seen by no later trigger.
                for sql in statements.iter().filter(|sql| own.is_none() || !sql.contains("OR FAIL")) {
                let _ = office.run(sql);
            }
            let _ = office.run("COMMIT");
            replica.catch_up(&mut source).await;
            assert_eq!(replica.rows, office.rows());
        });
    }
}
