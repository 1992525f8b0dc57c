//! What somebody drops of a replica that Hutong made comes back with its rows, and not empty.

use std::sync::Arc;

use hutong_core::{Batch, Delta, ErrorKind, Hold, Op, Sink as _};

use super::narrow::{NARROW, WHOLE, content, contract, filled, sink};
use super::{Lane, Office, lane, position, row, stands};

type Rows = Vec<(i64, Option<String>, Option<String>)>;

fn all() -> Rows {
    let two = |id: i64| [stands(id + 1, "a", Some("x")), stands(id + 2, "b", Some("y"))];
    [two(0), two(10)].concat()
}

/// Opens a lane, which is expected to stand `at` an offset then.
async fn opened(office: &Office, partition: u32, at: u64) -> Lane<'_> {
    let mut sink = sink(office, partition, content(office, WHOLE, &[], "wide"), WHOLE, "wide");
    let here = sink.open(&lane(partition)).await.unwrap();
    assert_eq!(here.position("p").as_offset().unwrap_or(0), at, "lane {partition}");
    Lane { office, sink, at }
}

/// Brings the rows of a lane from the base.
async fn fill(lane: &mut Lane<'_>, partition: u32) {
    lane.at = 0;
    lane.sink.prepare(&lane.office.contract).await.unwrap();
    let id = i64::from(partition) * 10;
    let rows = [(Op::Read, row(id + 1, "a", Some("x"))), (Op::Insert, row(id + 2, "b", Some("y")))];
    lane.commit(&rows).await.unwrap();
}

#[tokio::test]
async fn i3_what_somebody_drops_is_filled_anew_by_each_lane_that_had_it_in_every_order() {
    for dropped in ["DROP TABLE people", "ALTER TABLE people DROP COLUMN 备注"] {
        for order in [[0, 1], [1, 0]] {
            let office = Office::new("");
            filled(&office, &[]).await;
            office.run(dropped);
            let mut lanes = Vec::new();
            for partition in order {
                lanes.push((partition, opened(&office, partition, 0).await));
            }
            for (partition, lane) in &mut lanes {
                fill(lane, *partition).await;
            }
            assert_eq!(office.rows(), all(), "{dropped}");
            for partition in order {
                opened(&office, partition, 2).await;
            }
        }
    }
}

#[tokio::test]
async fn i3_a_table_that_is_dropped_under_its_lanes_is_not_made_again_by_one_that_goes_on() {
    let office = Office::new("");
    filled(&office, &[]).await;
    let (mut idle, mut busy) = (opened(&office, 0, 2).await, opened(&office, 1, 2).await);
    busy.sink.prepare(&office.contract).await.unwrap();
    busy.commit(&[(Op::Update, row(11, "c", None))]).await.unwrap();
    office.run("DROP TABLE people");

    let error = idle.sink.prepare(&office.contract).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.why().contains("the table is not there any more"), "{error}");
    assert!(idle.sink.open(&lane(0)).await.unwrap().is_empty());

    // The other one, perhaps of another process, is shut out as by a person, so that it opens again.
    let error = busy.commit(&[(Op::Update, row(11, "d", None))]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert_eq!(busy.sink.look().await.unwrap(), Hold::Turned);
    assert!(busy.sink.open(&lane(1)).await.unwrap().is_empty());
    fill(&mut idle, 0).await;
    fill(&mut busy, 1).await;
    assert_eq!(office.rows(), all());
}

#[tokio::test]
async fn i3_a_lane_that_finds_its_table_gone_opens_again_and_fills_it() {
    for dropped in ["DROP TABLE people", "ALTER TABLE people DROP COLUMN 备注"] {
        let office = Office::new("");
        filled(&office, &[]).await;
        let mut first = opened(&office, 0, 2).await;
        first.sink.prepare(&office.contract).await.unwrap();
        office.run(dropped);
        let error = first.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{dropped}: {error}");
        assert!(first.sink.open(&lane(0)).await.unwrap().is_empty(), "{dropped}");
        fill(&mut first, 0).await;
        assert_eq!(office.rows()[..2], all()[..2], "{dropped}");
    }
}

#[tokio::test]
async fn a_column_that_is_new_by_a_wider_grant_or_a_grown_contract_makes_no_other_lane_begin_anew() {
    let office = Office::new("");
    let narrow = contract(&office, NARROW);
    let knowing = |partition, columns: &[&str], mark: &str| {
        sink(&office, partition, content(&office, columns, &[], mark), columns, mark)
    };
    for partition in 0..2 {
        let mut sink = knowing(partition, NARROW, "narrow");
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&narrow).await.unwrap();
        let mut change = office.change(Op::Read, row(i64::from(partition), "a", None)[..2].to_vec(), 0);
        change.contract = Arc::clone(&narrow);
        let delta = Delta::range("p", position(0), position(1));
        let batch = Batch { changes: vec![change], delta, ..Batch::default() };
        sink.commit(&batch).await.unwrap();
    }
    // A grown contract comes under the same mark.
    let here = knowing(1, WHOLE, "narrow").open(&lane(1)).await.unwrap();
    assert_eq!(here.position("p").as_offset(), Some(1), "the source reads its rows again");
    assert_eq!(office.rows(), [stands(0, "a", None), stands(1, "a", None)]);
    office.run("ALTER TABLE people DROP COLUMN 备注");
    assert!(knowing(0, WHOLE, "wide").open(&lane(0)).await.unwrap().is_empty());
    assert!(knowing(1, WHOLE, "narrow").open(&lane(1)).await.unwrap().is_empty(), "that lane had it");
}
