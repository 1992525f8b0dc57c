//! A file that is moved away, or replaced, under a store whose lanes have it open.

use hutong_core::{Error, Hold};
use hutong_testkit::moved::put;

use super::*;

fn says(error: &Error, why: &str) {
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(why) && error.hint.is_some(), "{error}");
}

#[tokio::test]
async fn i2_i7_a_store_that_is_moved_away_is_waited_for_and_never_made_anew() {
    let office = Office::new("");
    let mut first = office.open(0).await;
    first.commit(&[(Op::Insert, row(1, "a", None))]).await.unwrap();
    let away = office.folder.path().join("away.db");
    put(&office.path(), &away);

    let error = first.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap_err();

    says(&error, "office.db is gone");
    assert_eq!(first.sink.look().await.unwrap(), Hold::Turned, "an idle lane opens again");
    for _ in 0..3 {
        says(&first.sink.open(&lane(0)).await.unwrap_err(), "office.db is gone");
    }
    says(&sqlite::answers(&office.path()).unwrap_err(), "office.db is gone");
    assert!(!office.path().exists(), "an opening makes no file");

    put(&away, &office.path());
    let mut again = office.open(0).await;
    assert_eq!(again.at, 1);
    again.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "a", None), stands(2, "b", None)]);
}

#[tokio::test]
async fn i2_i3_a_lane_writes_on_in_no_other_file_than_the_one_that_it_has_opened() {
    let office = Office::new("");
    let (mut first, mut second) = (office.open(0).await, office.open(1).await);
    first.commit(&[(Op::Insert, row(1, "a", None))]).await.unwrap();
    second.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap();
    let folder = office.folder.path();
    let copy = folder.join("copy.db");
    office.run(&format!("VACUUM INTO '{}'", copy.display()));
    second.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap();
    put(&office.path(), &folder.join("away.db"));
    put(&copy, &office.path());

    // The copy holds the second lane under its own epoch, so only the file tells that it stands elsewhere there; and
    // beside it may lie what the old one has left.
    for lane in [&mut first, &mut second] {
        let error = lane.commit(&[(Op::Insert, row(4, "d", None))]).await.unwrap_err();
        says(&error, "another file stands at");
        assert_eq!(lane.sink.look().await.unwrap(), Hold::Turned);
    }
    for number in 0..2 {
        let sink = if number == 0 { &mut first.sink } else { &mut second.sink };
        for _ in 0..2 {
            says(&sink.open(&lane(number)).await.unwrap_err(), "another file stands at");
        }
    }

    put(&office.path(), &copy);
    put(&folder.join("away.db"), &office.path());
    let (mut first, mut second) = (office.open(0).await, office.open(1).await);
    assert_eq!((first.at, second.at), (1, 2), "each goes on where it stood");
    first.commit(&[(Op::Insert, row(4, "d", None))]).await.unwrap();
    second.commit(&[(Op::Insert, row(5, "e", None))]).await.unwrap();
    let ids: Vec<i64> = office.rows().iter().map(|row| row.0).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn i2_an_idle_lane_sees_at_its_look_that_another_file_stands_there() {
    let office = Office::new("");
    let mut first = office.open(0).await;
    assert_eq!(first.sink.look().await.unwrap(), Hold::Held);
    let folder = office.folder.path();
    put(&office.path(), &folder.join("away.db"));
    std::fs::write(office.path(), "").unwrap();

    assert_eq!(first.sink.look().await.unwrap(), Hold::Turned);

    for _ in 0..2 {
        says(&first.sink.open(&lane(0)).await.unwrap_err(), "another file stands at");
    }
    std::fs::remove_file(office.path()).unwrap();
    put(&folder.join("away.db"), &office.path());
    first.sink.open(&lane(0)).await.unwrap();
    assert_eq!(first.sink.look().await.unwrap(), Hold::Held);
}
