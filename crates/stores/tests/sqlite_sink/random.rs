//! Random batches against a model of the apply rule.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn change() -> impl Strategy<Value = (Op, Row)> {
    let op =
        prop::sample::select(vec![Op::Read, Op::Insert, Op::Update, Op::Update, Op::Delete, Op::Truncate]);
    (op, 0..5_i64, "[a-c]", any::<bool>()).prop_map(|(op, id, code, partial)| {
        let note = if partial && op == Op::Update { Value::Unknown } else { Value::text(code.clone() + "!") };
        (op, vec![Value::Integer(id), Value::text(code), note])
    })
}

/// Applies a change by the rule that every store keeps; a partial one of a missing row changes nothing.
fn apply(rows: &mut BTreeMap<i64, Row>, waiting: &mut Vec<i64>, op: Op, row: &Row) {
    let Value::Integer(id) = row[0] else { panic!("a key is a number") };
    match op {
        Op::Truncate => {
            rows.clear();
            waiting.clear();
        }
        Op::Delete => {
            rows.remove(&id);
            waiting.retain(|w| *w != id);
        }
        _ if row[2].is_unknown() => match rows.get_mut(&id) {
            Some(old) if !waiting.contains(&id) => old[1] = row[1].clone(),
            _ => waiting.push(id),
        },
        _ => {
            rows.insert(id, row.clone());
            waiting.retain(|w| *w != id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn i4_any_batches_leave_what_the_changes_one_by_one_leave(
        batches in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..5),
        own in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let own = if own { "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT)" } else { "" };
            let office = Office::new(own);
            let (mut rows, mut waiting) = (BTreeMap::new(), Vec::new());
            for batch in &batches {
                let mut lane = office.open(0).await;
                lane.commit(batch).await.unwrap();
                for (op, row) in batch {
                    apply(&mut rows, &mut waiting, *op, row);
                }
            }
            let text = |v: &Value| v.as_text().map(str::to_owned);
            let wanted: Vec<_> = rows.iter().map(|(id, row)| (*id, text(&row[1]), text(&row[2]))).collect();
            assert_eq!(office.rows(), wanted);
            let items = office.items();
            assert_eq!(items.iter().filter(|(_, state)| state == "waiting").count(), waiting.len());
        });
    }
}
