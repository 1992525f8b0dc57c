//! What is said is what is heard, in however many parts; and hostile words say nothing that they do not hold.

use hutong_core::contract::Sharing;
use hutong_core::verify::Answer;
use hutong_core::{Field, Type, Value};
use hutong_testkit::hostile;

use super::*;

fn projected() -> Contract {
    Contract {
        stream: "s".into(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        fields: vec![Field::new("id", Type::Long), Field::new("n", Type::Text { length: None })],
        key: vec![0],
        catalogue: Default::default(),
    }
}

/// An answer with so many of everything.
fn answer(count: i64) -> Told {
    let mut answer = Answer { rows: 3, unknown: 1, ..Answer::default() };
    for n in 0..count {
        let key = KeyDigest::of(&projected(), &[Value::Integer(n), Value::Null]).unwrap();
        answer.sums.insert(key.range(), RangeSum { count: n as u64, sum: u128::MAX - n as u128 });
        answer.digests.insert(key, n as u128);
        let fields = vec![1, u64::MAX];
        answer.details.insert(key, Detail { fields, key: vec![Value::Integer(n)], source_key: None });
        answer.asides.insert(key, Aside { rule: "check".into(), at_replica: false });
    }
    Told { answer, begins: [(0, 3)].into(), ends: [(0, 9), (1, 0)].into(), ..Told::default() }
}

fn heard(words: &[Word]) -> Vec<Word> {
    words.iter().map(|word| Word::decode(&word.encode(1)).unwrap()).collect()
}

#[test]
fn what_is_said_is_what_is_heard() {
    let said = answer(1);
    let words = written(&said, "b", PART_BYTES).unwrap();
    assert_eq!(words.len(), 1);
    assert_eq!(told(heard(&words), &projected()).unwrap(), said);
    let key = *said.answer.digests.keys().next().unwrap();
    for wish_for in [Wanted::Known(key), Wanted::Clear(vec![Value::Integer(7)])] {
        assert_eq!(wanted(&wish(&wish_for), &projected()), Some(wish_for));
    }
    for ask in [Ask::Ranges, Ask::Within([0, 65_535].into()), Ask::Keys([key].into())] {
        assert_eq!(asked(&question(&ask)), Some(ask));
    }
    assert_eq!(asked(&Word { about: "what".into(), ..Word::default() }), None);
}

#[test]
fn i3_an_answer_that_is_too_large_for_one_record_comes_whole_in_several() {
    let said = answer(500);
    let words = written(&said, "b", 4_000).unwrap();
    assert!(words.len() > 5, "{} parts", words.len());
    assert!(words.iter().all(|word| word.encode(1).len() < 4_500), "none is much larger than asked");
    let mut partial = Partial::default();
    // Another one answers too and stops halfway, and a part is written twice.
    let other = written(&answer(400), "other", 4_000).unwrap();
    assert!(other[..2].iter().all(|word| partial.take(word.clone()).is_none()));
    let mut whole = None;
    for word in heard(&words) {
        assert!(whole.is_none(), "not before the last part");
        let again = word.clone();
        whole = partial.take(word);
        if whole.is_none() {
            assert!(partial.take(again).is_none());
        }
    }
    assert_eq!(told(whole.unwrap(), &projected()).unwrap(), said);
    // Of one whose first part was not heard, nothing counts.
    assert!(words[1..].iter().all(|word| Partial::default().take(word.clone()).is_none()));
    assert_eq!(written(&said, "b", 10), None, "nobody keeps a thousand parts");
}

#[test]
fn i5_hostile_words_say_nothing_that_they_do_not_hold() {
    let projected = projected();
    let question = question(&Ask::Within([1, 2].into()));
    let mend = Word { word: "mend".into(), mend: vec!["[7]".into(), "0f".repeat(16)], ..Word::default() };
    let mut words = written(&answer(3), "b", PART_BYTES).unwrap();
    words.extend([question, mend]);
    let valid: Vec<Vec<u8>> = words.iter().map(|word| word.encode(1).to_vec()).collect();
    hostile::feed("i5_hostile_words_say_nothing_that_they_do_not_hold", 4_000, &valid, |bytes| {
        let Ok(word) = Word::decode(&Bytes::copy_from_slice(bytes)) else { return };
        for text in &word.mend {
            // Written again it names the same row.
            if let Some(wish_for) = wanted(text, &projected) {
                assert_eq!(wanted(&wish(&wish_for), &projected), Some(wish_for));
            }
        }
        let most = word.ranges.len() / 2 + word.keys.len() / 16;
        match asked(&word) {
            Some(Ask::Within(ranges)) => assert!(ranges.len() <= most),
            Some(Ask::Keys(keys)) => assert!(keys.len() <= most),
            Some(Ask::Ranges) | None => {}
        }
        let (sums, digests) = (word.sums.len() / 26, word.digests.len() / 32);
        let mut partial = Partial::default();
        let Some(words) = partial.take(word) else { return };
        if let Ok(told) = told(words, &projected) {
            assert!(told.answer.sums.len() <= sums && told.answer.digests.len() <= digests);
        }
    });
}
