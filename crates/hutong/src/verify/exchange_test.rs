//! The two halves over a bus: whatever else stands in their topic, and however much one of them has to tell.

use hutong_bus::embedded::{Bus, Options, Registry};
use hutong_core::contract::Sharing;
use hutong_core::verify::{Answer, Detail, KeyDigest};
use hutong_core::{Field, Type, Value};

use super::*;

/// A source half that tells what it was given, and keeps what it is asked to mend.
#[derive(Default)]
struct Beside {
    told: Told,
    asked: Vec<Wanted>,
    /// Where something that is no word is written before each answer.
    rubbish: Option<Exchange>,
}

#[async_trait]
impl Half for Beside {
    async fn tell(&mut self, _: &Ask, _: &[usize], _: bool) -> Result<Told> {
        if let Some(exchange) = &self.rubbish {
            write_rubbish(exchange).await;
        }
        Ok(self.told.clone())
    }

    async fn mend(&mut self, wanted: &[Wanted]) -> Result<()> {
        self.asked.extend_from_slice(wanted);
        Ok(())
    }
}

/// Writes what is framed like nothing, and what a newer program may have said.
async fn write_rubbish(exchange: &Exchange) {
    for rubbish in [&b"no word"[..], &[0, 0, 0, 0, 1, 8]] {
        exchange.append.append(&exchange.topic, rubbish.into()).await.unwrap();
    }
}

fn projected() -> Contract {
    Contract {
        stream: "s".into(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        fields: vec![Field::new("id", Type::Text { length: None })],
        key: vec![0],
        catalogue: Default::default(),
    }
}

fn exchange(bus: &Arc<Bus>) -> Exchange {
    Exchange {
        log: Arc::clone(bus) as _,
        append: Arc::clone(bus) as _,
        registry: Arc::new(Registry::new(Arc::clone(bus))),
        topic: "hutong.verify.pension".into(),
        mark: "m".into(),
        projected: Arc::new(projected()),
    }
}

/// Runs `act` while a half beside the source answers.
async fn beside<T>(bus: &Arc<Bus>, half: &mut Beside, act: impl AsyncFnOnce() -> T) -> T {
    let (token, exchange) = (CancellationToken::new(), exchange(bus));
    let from = exchange.end().await.unwrap();
    let acting = async {
        let done = act().await;
        token.cancel();
        done
    };
    let (done, served) = tokio::join!(acting, answers(&exchange, from, half, &token));
    served.unwrap();
    done
}

fn bus() -> (tempfile::TempDir, Arc<Bus>) {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&folder.path().join("bus"), Options::default()).unwrap();
    (folder, bus)
}

#[tokio::test]
async fn i3_what_nobody_can_read_in_the_topic_is_passed_over_and_counted() {
    let (_folder, bus) = bus();
    write_rubbish(&exchange(&bus)).await;
    let told = Told { answer: Answer { rows: 7, ..Answer::default() }, ..Told::default() };
    let mut half = Beside { told, rubbish: Some(exchange(&bus)), ..Beside::default() };
    let answers = beside(&bus, &mut half, async || {
        let mut half = Asked::new(exchange(&bus), Duration::from_secs(60));
        // The second one proves that neither half has ended.
        [
            half.tell(&Ask::Ranges, &[], false).await.unwrap(),
            half.tell(&Ask::Ranges, &[], true).await.unwrap(),
        ]
    })
    .await;
    for told in answers {
        assert_eq!((told.answer.rows, told.passed_over), (7, 2), "what was said before is nobody's concern");
    }
}

#[tokio::test]
async fn who_is_not_answered_is_told_whether_the_topic_holds_what_nobody_can_read() {
    let (_folder, bus) = bus();
    let asked = Asked::new(exchange(&bus), Duration::from_secs(1));
    for (passed_over, why, hint) in [(0, "nobody answers", "--half source"), (2, "2 records", "one version")]
    {
        let error = asked.silent(passed_over);
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.hint.as_deref().is_some_and(|told| told.contains(hint)), "{:?}", error.hint);
    }
}

#[tokio::test]
async fn i3_an_answer_larger_than_a_record_comes_in_parts_and_a_row_larger_than_one_is_said() {
    let (_folder, bus) = bus();
    let told = |count: u8, length: usize| {
        let mut answer = Answer::default();
        for n in 0..count {
            let key = vec![Value::text(format!("{n}{}", "x".repeat(length)))];
            let detail = Detail { fields: vec![1], key, source_key: None };
            answer.details.insert(KeyDigest([n; 16]), detail);
        }
        Told { answer, ..Told::default() }
    };
    let mut half = Beside { told: told(5, 6 << 20), ..Beside::default() };
    let heard = beside(&bus, &mut half, async || {
        Asked::new(exchange(&bus), Duration::from_secs(60)).tell(&Ask::Ranges, &[], false).await.unwrap()
    })
    .await;
    assert!(heard == half.told, "all of it has come");

    half.told = told(2, 17 << 20);
    let error = beside(&bus, &mut half, async || {
        let mut half = Asked::new(exchange(&bus), Duration::from_secs(60));
        half.tell(&Ask::Ranges, &[], false).await.unwrap_err()
    })
    .await;
    assert!(error.to_string().contains("a record may have"), "{error}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("reload")), "{:?}", error.hint);
}

#[tokio::test]
async fn keys_that_are_too_many_for_one_question_are_asked_for_in_several() {
    let (_folder, bus) = bus();
    let wishes: Vec<Wanted> =
        (0..4).map(|n| Wanted::Clear(vec![Value::text(format!("{n}{}", "y".repeat(3 << 20)))])).collect();
    let mut half = Beside::default();
    beside(&bus, &mut half, async || {
        Asked::new(exchange(&bus), Duration::from_secs(60)).mend(&wishes).await.unwrap();
    })
    .await;
    assert!(half.asked == wishes);
}
