//! What somebody drops of a replica that Hutong made comes back with its rows, and not empty.

use hutong_core::{ErrorKind, Hold, Op, Sink as _, Value};
use hutong_stores::postgres::sink::Sink;

use crate::beside::reload;
use crate::given::{Store, TABLE, Topic, lane, people, person};
use crate::narrow::{Granted, WHOLE, filled};

const NARROW: Granted = Granted { columns: &["id", "name"], ..WHOLE };

const ALL: [&str; 4] = ["1|张三|30", "2|李四|40", "11|张三|30", "12|李四|40"];

/// Opens a lane, which is expected to stand `at` an offset then.
async fn opened(store: &Store, partition: u32, at: Option<u64>) -> Sink {
    let mut sink = WHOLE.sink(store, "wide", 4);
    let here = sink.open(&lane(partition)).await.unwrap();
    assert_eq!(here.position("0").as_offset().filter(|_| !here.is_empty()), at, "lane {partition}");
    sink
}

/// Brings the rows of a lane from the base.
async fn fill(sink: &mut Sink, partition: u32) {
    sink.prepare(&people()).await.unwrap();
    let id = i64::from(partition) * 10;
    let rows = [(Op::Read, person(id + 1, "张三", 30)), (Op::Insert, person(id + 2, "李四", 40))];
    sink.commit(&Topic::new(&people()).batch(rows)).await.unwrap();
}

async fn drop_table(store: &Store) {
    store.run(&format!("DROP TABLE {TABLE}")).await;
}

#[tokio::test]
async fn i3_a_table_that_somebody_drops_is_filled_anew_by_each_of_its_lanes_in_every_order() {
    for order in [[0, 1], [1, 0]] {
        let store = Store::fresh().await;
        filled(&store, &WHOLE).await;
        drop_table(&store).await;
        for partition in order {
            let mut sink = opened(&store, partition, None).await;
            fill(&mut sink, partition).await;
        }
        assert_eq!(store.people().await, ALL);
        for partition in order {
            opened(&store, partition, Some(2)).await;
        }
    }
}

#[tokio::test]
async fn i3_a_lane_that_is_new_or_comes_under_another_grant_tells_the_others_of_a_table_that_is_gone() {
    // The one is new; the other would be narrowed where it stands, and has nothing there.
    for first in [2, 0] {
        let store = Store::fresh().await;
        filled(&store, &WHOLE).await;
        drop_table(&store).await;
        assert!(NARROW.sink(&store, "narrow", 7).open(&lane(first)).await.unwrap().is_empty(), "{first}");
        opened(&store, 1, None).await;
    }
}

#[tokio::test]
async fn i3_a_table_that_is_dropped_under_its_lanes_is_not_made_again_by_one_that_goes_on() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    let (mut idle, mut busy) = (opened(&store, 0, Some(2)).await, opened(&store, 1, Some(2)).await);
    let mut topic = Topic::from(&people(), 2);
    busy.prepare(&people()).await.unwrap();
    busy.commit(&topic.batch([(Op::Update, person(11, "王五", 30))])).await.unwrap();
    drop_table(&store).await;

    let error = idle.prepare(&people()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.why().contains("the table is not there any more"), "{error}");
    assert!(idle.open(&lane(0)).await.unwrap().is_empty());

    // The other one, perhaps of another process, is shut out as by a person, so that it opens again.
    let error = busy.commit(&topic.batch([(Op::Update, person(11, "赵六", 30))])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert_eq!(busy.look().await.unwrap(), Hold::Turned);
    assert!(busy.open(&lane(1)).await.unwrap().is_empty());
    fill(&mut idle, 0).await;
    fill(&mut busy, 1).await;
    assert_eq!(store.people().await, ALL);
}

#[tokio::test]
async fn i3_a_lane_that_finds_its_table_gone_opens_again_and_fills_it() {
    for dropped in ["DROP TABLE share.people", "ALTER TABLE share.people DROP COLUMN age"] {
        let store = Store::fresh().await;
        filled(&store, &WHOLE).await;
        let mut sink = opened(&store, 0, Some(2)).await;
        sink.prepare(&people()).await.unwrap();
        store.run(dropped).await;
        let change = Topic::from(&people(), 2).batch([(Op::Insert, person(3, "王五", 50))]);
        let error = sink.commit(&change).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{dropped}: {error}");
        assert!(error.why().contains("not there any more"), "{error}");
        assert!(sink.open(&lane(0)).await.unwrap().is_empty(), "{dropped}");
        fill(&mut sink, 0).await;
        assert_eq!(store.people().await[..2], ALL[..2], "{dropped}");
    }
}

#[tokio::test]
async fn i3_a_column_that_somebody_drops_is_filled_anew_by_each_lane_that_had_it() {
    for order in [[0, 1], [1, 0]] {
        let store = Store::fresh().await;
        filled(&store, &WHOLE).await;
        store.run(&format!("ALTER TABLE {TABLE} DROP COLUMN age")).await;
        let mut lanes = Vec::new();
        for partition in order {
            lanes.push((partition, opened(&store, partition, None).await));
        }
        for (partition, sink) in &mut lanes {
            fill(sink, *partition).await;
        }
        assert_eq!(store.people().await, ALL);
        for partition in order {
            opened(&store, partition, Some(2)).await;
        }
    }
}

#[tokio::test]
async fn a_column_that_is_new_by_a_wider_grant_or_a_grown_contract_makes_no_other_lane_begin_anew() {
    let store = Store::fresh().await;
    for partition in 0..2 {
        let mut sink = NARROW.sink(&store, "narrow", 4);
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&NARROW.contract()).await.unwrap();
        let row = vec![Value::Integer(i64::from(partition)), Value::text("张三")];
        sink.commit(&Topic::new(&NARROW.contract()).batch([(Op::Read, row)])).await.unwrap();
    }
    // A grown contract comes under the same mark.
    let here = WHOLE.sink(&store, "narrow", 4).open(&lane(1)).await.unwrap();
    assert_eq!(here.position("0").as_offset(), Some(1), "the source reads its rows again");
    assert_eq!(store.people().await, ["0|张三|∅", "1|张三|∅"]);
    let here = NARROW.sink(&store, "narrow", 4).open(&lane(0)).await.unwrap();
    assert_eq!(here.position("0").as_offset(), Some(1), "it has lost nothing");
    store.run(&format!("ALTER TABLE {TABLE} DROP COLUMN age")).await;
    assert!(WHOLE.sink(&store, "wide", 5).open(&lane(0)).await.unwrap().is_empty());
    assert!(WHOLE.sink(&store, "narrow", 4).open(&lane(1)).await.unwrap().is_empty(), "that lane had it");
}

#[tokio::test]
async fn i3_what_is_filled_beside_a_table_that_is_gone_does_not_stand_for_the_whole_of_it() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    reload(&store).await;
    let mut sink = opened(&store, 0, None).await;
    sink.prepare(&people()).await.unwrap();
    let mut other = opened(&store, 1, None).await;
    fill(&mut other, 1).await;
    drop_table(&store).await;
    let rows = [(Op::Read, person(1, "张三", 30)), (Op::Insert, person(2, "李四", 40))];
    let error = sink.commit(&Topic::new(&people()).batch(rows)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(sink.open(&lane(0)).await.unwrap().is_empty());
    fill(&mut sink, 0).await;
    assert_eq!(store.people().await, ALL[..2]);
    let mut other = opened(&store, 1, None).await;
    fill(&mut other, 1).await;
    assert_eq!(store.people().await, ALL);
}
