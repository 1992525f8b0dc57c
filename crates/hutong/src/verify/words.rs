//! Questions and answers as words of the topic, and back: what is too large for one record is several.

use std::collections::BTreeMap;

use bytes::Bytes;
use hutong_bus::verification::{self, Word};
use hutong_core::Contract;
use hutong_core::verify::{Aside, Ask, Detail, KeyDigest, RangeSum};
use hutong_stores::keep::{read_key, written_key};

use super::source::{Told, Wanted};

/// How many bytes of an answer stand in one word; a row of its own may be larger.
pub(super) const PART_BYTES: usize = 8 << 20;

/// How many parts an answer has at most: whoever asks keeps all of them.
pub(super) const PARTS: u64 = 128;

/// What surrounds a detail or an aside in a record, at most.
const AROUND_BYTES: usize = 32;

/// One word on its way, as far as it is filled.
#[derive(Default)]
struct Part {
    sums: Vec<u8>,
    digests: Vec<u8>,
    details: Vec<verification::Detail>,
    asides: Vec<(Bytes, String)>,
    bytes: usize,
}

struct Parts(Vec<Part>, usize);

impl Parts {
    /// Returns the part in which there is room for so many bytes.
    fn room(&mut self, bytes: usize) -> &mut Part {
        let limit = self.1;
        if self.0.last().is_none_or(|part| part.bytes > 0 && part.bytes + bytes > limit) {
            self.0.push(Part::default());
        }
        let part = self.0.last_mut().expect("there is one now");
        part.bytes += bytes;
        part
    }
}

/// Makes words of an answer, each of about `limit` bytes at the most; `None` when they are too many.
pub(super) fn written(told: &Told, by: &str, limit: usize) -> Option<Vec<Word>> {
    let Told { answer, begins, ends, .. } = told;
    let mut parts = Parts(vec![Part::default()], limit);
    for (range, sum) in &answer.sums {
        let whole: [&[u8]; 3] = [&range.to_be_bytes(), &sum.count.to_be_bytes(), &sum.sum.to_be_bytes()];
        parts.room(26).sums.extend(whole.concat());
    }
    for (key, row) in &answer.digests {
        parts.room(32).digests.extend([key.0, row.to_be_bytes()].concat());
    }
    for (digest, detail) in &answer.details {
        let key = written_key(&detail.key).to_string();
        // A number takes ten bytes at the most.
        let bytes = AROUND_BYTES + key.len() + 10 * detail.fields.len();
        let digest = Bytes::copy_from_slice(&digest.0);
        parts.room(bytes).details.push(verification::Detail { digest, fields: detail.fields.clone(), key });
    }
    for (digest, aside) in &answer.asides {
        let bytes = AROUND_BYTES + aside.rule.len();
        parts.room(bytes).asides.push((Bytes::copy_from_slice(&digest.0), aside.rule.clone()));
    }
    let count = parts.0.len() as u64;
    let word = |(part, filled): (u64, Part)| Word {
        word: "told".into(),
        rows: answer.rows,
        unknown: answer.unknown,
        begins: begins.clone(),
        ends: ends.clone(),
        sums: filled.sums.into(),
        digests: filled.digests.into(),
        details: filled.details,
        asides: filled.asides,
        by: by.to_owned(),
        part,
        parts: count,
        ..Word::default()
    };
    (count <= PARTS).then(|| (0..).zip(parts.0).map(word).collect())
}

/// Reads an answer out of its words.
pub(super) fn told(words: Vec<Word>, projected: &Contract) -> Result<Told, &'static str> {
    let mut told = Told::default();
    for word in words {
        read(word, projected, &mut told)?;
    }
    Ok(told)
}

fn read(word: Word, projected: &Contract, told: &mut Told) -> Result<(), &'static str> {
    let answer = &mut told.answer;
    (answer.rows, answer.unknown) = (word.rows, word.unknown);
    for bytes in word.sums.chunks(26) {
        let (range, rest) = bytes.split_first_chunk::<2>().ok_or("a sum is cut")?;
        let (count, sum) = rest.split_first_chunk::<8>().ok_or("a sum is cut")?;
        let sum = u128::from_be_bytes(sum.try_into().map_err(|_| "a sum is cut")?);
        let sum = RangeSum { count: u64::from_be_bytes(*count), sum };
        answer.sums.insert(u16::from_be_bytes(*range), sum);
    }
    for bytes in word.digests.chunks(32) {
        let (key, row) = bytes.split_first_chunk::<16>().ok_or("a digest is cut")?;
        let row = u128::from_be_bytes(row.try_into().map_err(|_| "a digest is cut")?);
        answer.digests.insert(KeyDigest(*key), row);
    }
    for detail in word.details {
        let key = serde_json::from_str(&detail.key).ok().and_then(|json| read_key(projected, &json));
        let key = key.ok_or("a key is none of the subscription's")?;
        let digest = digest(&detail.digest).ok_or("a digest is cut")?;
        answer.details.insert(digest, Detail { fields: detail.fields, key, source_key: None });
    }
    for (key, rule) in word.asides {
        answer.asides.insert(digest(&key).ok_or("a digest is cut")?, Aside { rule, at_replica: false });
    }
    (told.begins, told.ends) = (word.begins, word.ends);
    Ok(())
}

/// Makes a question of what is asked.
pub(super) fn question(ask: &Ask) -> Word {
    let (about, ranges, keys) = match ask {
        Ask::Ranges => ("ranges", Bytes::new(), Bytes::new()),
        Ask::Within(ranges) => {
            ("within", ranges.iter().flat_map(|range| range.to_be_bytes()).collect(), Bytes::new())
        }
        Ask::Keys(keys) => ("keys", Bytes::new(), keys.iter().flat_map(|key| key.0).collect()),
    };
    Word { word: "ask".into(), about: about.into(), ranges, keys, ..Word::default() }
}

/// Reads what is asked out of a question; `None` when this program does not know it.
pub(super) fn asked(word: &Word) -> Option<Ask> {
    Some(match &*word.about {
        "ranges" => Ask::Ranges,
        "within" => {
            Ask::Within(word.ranges.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect())
        }
        "keys" => Ask::Keys(word.keys.chunks_exact(16).filter_map(digest).collect()),
        _ => return None,
    })
}

fn digest(bytes: &[u8]) -> Option<KeyDigest> {
    bytes.try_into().ok().map(KeyDigest)
}

/// Returns the text of a row that is to be sent again.
pub(super) fn wish(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Known(digest) => format!("{digest:?}"),
        Wanted::Clear(key) => written_key(key).to_string(),
    }
}

/// Reads a row that is to be sent again; `None` when it is none of the subscription's.
pub(super) fn wanted(text: &str, projected: &Contract) -> Option<Wanted> {
    if text.starts_with('[') {
        return read_key(projected, &serde_json::from_str(text).ok()?).map(Wanted::Clear);
    }
    u128::from_str_radix(text, 16).ok().map(|number| Wanted::Known(KeyDigest(number.to_be_bytes())))
}

/// Answers of which not every part was heard yet, by who says them.
#[derive(Default)]
pub(super) struct Partial(BTreeMap<String, Vec<Word>>);

/// How many are answered by at once, at most.
const VOICES: usize = 8;

impl Partial {
    /// Takes a part in; returns the whole answer when it was the last one.
    ///
    /// Two may answer, and one may have stopped halfway: of each, what has come whole counts.
    pub(super) fn take(&mut self, word: Word) -> Option<Vec<Word>> {
        if word.parts <= 1 {
            return Some(vec![word]);
        }
        if word.part == 0 && self.0.len() >= VOICES {
            self.0.clear();
        }
        let parts = self.0.entry(word.by.clone()).or_default();
        // A part that comes twice was taken; one that comes too early belongs to an answer whose beginning is lost.
        if word.part != parts.len() as u64 || word.part >= PARTS {
            return None;
        }
        let is_last = word.part + 1 == word.parts;
        parts.push(word);
        is_last.then(|| std::mem::take(parts))
    }
}

#[cfg(test)]
#[path = "words_test.rs"]
mod tests;
