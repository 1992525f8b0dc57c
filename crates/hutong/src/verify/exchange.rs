//! The two halves apart: questions and answers in a topic of the bus.
//!
//! Where no process reaches both databases, the half beside the replica asks here, and a process beside the source
//! answers ([`serve`]). What stands in the topic is digests, places, and the keys of rows that differ; never a row. Who
//! asks cannot widen a grant: the source half tells only what it lets through, under a mark that both must know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_bus::SchemaRegistry;
use hutong_bus::ledger::Append;
use hutong_bus::log::{Log, Reader};
use hutong_bus::verification::{self, Word};
use hutong_core::verify::{Answer, Aside, Ask, Detail, KeyDigest, RangeSum};
use hutong_core::{Contract, Error, ErrorKind, Result};
use hutong_stores::keep::{read_key, written_key};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::source::{Half, Told, Wanted};

/// How often the topic is looked at while nobody has made it.
const LOOK: Duration = Duration::from_millis(300);

/// How long an answer may take before the question is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the topic keeps what was said, in microseconds: it names the keys of rows that differed.
const KEPT_US: i64 = 86_400_000_000;

/// How many sessions are remembered whose questions were answered.
const SESSIONS: usize = 1_000;

/// The topic of one subscription, to speak and to listen.
pub struct Exchange {
    /// The topics.
    pub log: Arc<dyn Log>,
    /// How a word is added.
    pub append: Arc<dyn Append>,
    /// The schemas.
    pub registry: Arc<dyn SchemaRegistry>,
    /// The topic's name.
    pub topic: String,
    /// The mark of the grant that both halves must know.
    pub mark: String,
    /// The contract of what the grant lets through.
    pub projected: Arc<Contract>,
}

impl Exchange {
    async fn say(&self, word: &Word) -> Result<u64> {
        let schema = self.registry.register(&format!("{}-value", self.topic), verification::SCHEMA).await?;
        self.append.append(&self.topic, word.encode(schema)).await
    }

    /// Forgets what was said long ago. Who may not has said so once, and goes on.
    async fn forget(&self) {
        let since_us = jiff::Timestamp::now().as_microsecond() - KEPT_US;
        if let Err(error) = self.log.trim(&self.topic, 0, u64::MAX, since_us).await {
            warn!(topic = self.topic, %error, "what was said in earlier comparisons stays in the topic");
        }
    }

    async fn end(&self) -> Result<u64> {
        let extent = self.log.extent(&self.topic).await?;
        Ok(extent.and_then(|extent| extent.get(&0).map(|(_, end)| *end)).unwrap_or(0))
    }

    /// Opens a reader at a place; waits until somebody has made the topic.
    async fn listen(&self, from: u64) -> Result<Box<dyn Reader>> {
        loop {
            if self.log.extent(&self.topic).await?.is_some_and(|extent| extent.contains_key(&0)) {
                let mut reader = self.log.reader(&self.topic, 0, None).await?;
                reader.seek(from).await?;
                return Ok(reader);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Waits for the next words; those that a newer program has said are an error.
async fn heard(reader: &mut dyn Reader) -> Result<Vec<Word>> {
    let fetched = reader.next(100, 16 << 20).await?;
    fetched.records.iter().filter_map(|record| record.value.as_ref()).map(Word::decode).collect()
}

/// The source half, asked over the bus.
pub struct Asked {
    exchange: Exchange,
    session: String,
    number: u64,
    patience: Duration,
}

impl Asked {
    /// Makes it; says nothing yet.
    pub fn new(exchange: Exchange, patience: Duration) -> Self {
        let session = format!("{:x}-{:x}", jiff::Timestamp::now().as_nanosecond(), std::process::id());
        Self { exchange, session, number: 0, patience }
    }

    /// Says a word, and waits for its answer.
    async fn answer(&mut self, word: Word) -> Result<Word> {
        self.number += 1;
        let word = Word {
            session: self.session.clone(),
            number: self.number,
            mark: self.exchange.mark.clone(),
            ..word
        };
        let from = self.exchange.say(&word).await?;
        if self.number == 1 {
            self.exchange.forget().await;
        }
        // The other half may wait as long as this one before it gives up.
        let until = Instant::now() + self.patience * 2;
        let answered = async {
            let mut reader = self.exchange.listen(from).await?;
            let mut again = Instant::now() + AGAIN;
            loop {
                let words = tokio::select! {
                    words = heard(reader.as_mut()) => words?,
                    () = tokio::time::sleep_until(again) => {
                        // Nobody may have listened yet; who has answered already does not answer twice.
                        self.exchange.say(&word).await?;
                        again = Instant::now() + AGAIN;
                        continue;
                    }
                };
                let mine = |heard: &Word| heard.session == self.session && heard.number == self.number;
                let answer =
                    words.into_iter().find(|heard| mine(heard) && !matches!(&*heard.word, "ask" | "mend"));
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
        };
        let doing = || format!("ask in {}", self.exchange.topic);
        let silent = |_| {
            Error::new(ErrorKind::Unavailable, doing(), "nobody answers beside the source").hint(
                "where the stream is captured, run `hutong verify SUBSCRIPTION --half source`; --patience waits longer",
            )
        };
        let answer = tokio::time::timeout_at(until, answered).await.map_err(silent)??;
        if answer.word == "failed" {
            return Err(Error::new(
                ErrorKind::Unavailable,
                doing(),
                format!("beside the source: {}", answer.problem),
            )
            .hint(answer.hint));
        }
        Ok(answer)
    }
}

#[async_trait]
impl Half for Asked {
    async fn tell(&mut self, ask: &Ask, skip: &[usize], settled: bool) -> Result<Told> {
        let names = skip.iter().map(|at| self.exchange.projected.fields[*at].name.clone()).collect();
        let (about, ranges, keys) = match ask {
            Ask::Ranges => ("ranges", Bytes::new(), Bytes::new()),
            Ask::Within(ranges) => {
                ("within", ranges.iter().flat_map(|range| range.to_be_bytes()).collect(), Bytes::new())
            }
            Ask::Keys(keys) => ("keys", Bytes::new(), keys.iter().flat_map(|key| key.0).collect()),
        };
        let word = Word {
            word: "ask".into(),
            about: about.into(),
            skip: names,
            settled,
            ranges,
            keys,
            ..Word::default()
        };
        let word = self.answer(word).await?;
        told(word, &self.exchange.projected).map_err(|why| {
            Error::new(ErrorKind::Broken, format!("read an answer in {}", self.exchange.topic), why)
        })
    }

    async fn mend(&mut self, wanted: &[Wanted]) -> Result<()> {
        let key = |wanted: &Wanted| match wanted {
            Wanted::Known(digest) => format!("{digest:?}"),
            Wanted::Clear(key) => written_key(key).to_string(),
        };
        let mend = wanted.iter().map(key).collect();
        self.answer(Word { word: "mend".into(), mend, ..Word::default() }).await.map(drop)
    }
}

/// Answers what is asked in a topic from now on, until it is told to stop. What cannot be answered is said so.
pub async fn serve(exchange: &Exchange, half: &mut dyn Half, token: &CancellationToken) -> Result<()> {
    let from = exchange.end().await?;
    let mut answered: HashMap<String, u64> = HashMap::new();
    let stopped = token.cancelled();
    tokio::pin!(stopped);
    let mut reader = tokio::select! {
        () = &mut stopped => return Ok(()),
        reader = exchange.listen(from) => reader?,
    };
    loop {
        let words = tokio::select! {
            () = &mut stopped => return Ok(()),
            words = heard(reader.as_mut()) => words?,
        };
        for word in words.into_iter().filter(|word| matches!(&*word.word, "ask" | "mend")) {
            if answered.get(&word.session).is_some_and(|number| word.number <= *number) {
                continue;
            }
            if answered.len() >= SESSIONS {
                answered.clear();
            }
            answered.insert(word.session.clone(), word.number);
            info!(topic = exchange.topic, word = word.word, about = word.about, "asked");
            let (session, number) = (word.session.clone(), word.number);
            let answer = tokio::select! {
                () = &mut stopped => return Ok(()),
                answer = reply(exchange, half, word) => answer.unwrap_or_else(|error| {
                    warn!(topic = exchange.topic, %error, "cannot answer");
                    let hint = error.hint.clone().unwrap_or_default();
                    Word { word: "failed".into(), problem: error.to_string(), hint, ..Word::default() }
                }),
            };
            exchange.say(&Word { session, number, ..answer }).await?;
        }
    }
}

async fn reply(exchange: &Exchange, half: &mut dyn Half, word: Word) -> Result<Word> {
    let doing = || format!("answer in {}", exchange.topic);
    if word.mark != exchange.mark {
        let why = "the two sides know the subscription by different grants";
        return Err(Error::new(ErrorKind::Config, doing(), why)
            .hint("bring both configurations to the same columns, rows, masks and key"));
    }
    let broken = |why: &str| Error::new(ErrorKind::Broken, doing(), why);
    if word.word == "mend" {
        let wanted: Option<Vec<Wanted>> =
            word.mend.iter().map(|key| wanted(key, &exchange.projected)).collect();
        half.mend(&wanted.ok_or_else(|| broken("a key is none of the subscription's"))?).await?;
        return Ok(Word { word: "mended".into(), ..Word::default() });
    }
    let ask = match &*word.about {
        "ranges" => Ask::Ranges,
        "within" => {
            Ask::Within(word.ranges.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect())
        }
        "keys" => Ask::Keys(word.keys.chunks_exact(16).filter_map(digest).collect()),
        _ => return Err(broken("it is asked about something that this program does not know")),
    };
    let skip = word.skip.iter().map(|name| exchange.projected.index(name));
    let skip: Vec<usize> = skip.collect::<Option<_>>().ok_or_else(|| broken("a field is not granted"))?;
    let told = half.tell(&ask, &skip, word.settled).await?;
    Ok(written(told))
}

/// Makes a word of an answer.
fn written(told: Told) -> Word {
    let Told { answer, begins, ends } = told;
    let sums = answer.sums.iter().flat_map(|(range, sum)| {
        let parts: [&[u8]; 3] = [&range.to_be_bytes(), &sum.count.to_be_bytes(), &sum.sum.to_be_bytes()];
        parts.concat()
    });
    let digests = answer.digests.iter().flat_map(|(key, row)| [key.0, row.to_be_bytes()].concat());
    let details = answer.details.iter().map(|(digest, detail)| verification::Detail {
        digest: Bytes::copy_from_slice(&digest.0),
        fields: detail.fields.clone(),
        key: written_key(&detail.key).to_string(),
    });
    let asides =
        answer.asides.iter().map(|(digest, aside)| (Bytes::copy_from_slice(&digest.0), aside.rule.clone()));
    Word {
        word: "told".into(),
        rows: answer.rows,
        unknown: answer.unknown,
        begins,
        ends,
        sums: sums.collect(),
        digests: digests.collect(),
        details: details.collect(),
        asides: asides.collect(),
        ..Word::default()
    }
}

/// Reads an answer out of a word.
fn told(word: Word, projected: &Contract) -> std::result::Result<Told, &'static str> {
    let mut answer = Answer { rows: word.rows, unknown: word.unknown, ..Answer::default() };
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
    Ok(Told { answer, begins: word.begins, ends: word.ends })
}

fn digest(bytes: &[u8]) -> Option<KeyDigest> {
    bytes.try_into().ok().map(KeyDigest)
}

fn wanted(text: &str, projected: &Contract) -> Option<Wanted> {
    if text.starts_with('[') {
        return read_key(projected, &serde_json::from_str(text).ok()?).map(Wanted::Clear);
    }
    u128::from_str_radix(text, 16).ok().map(|number| Wanted::Known(KeyDigest(number.to_be_bytes())))
}

#[cfg(test)]
mod tests {
    use hutong_core::contract::Sharing;
    use hutong_core::{Field, Type, Value};

    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        let projected = Contract {
            stream: "s".into(),
            doc: String::new(),
            sharing: Sharing::Unconditional,
            fields: vec![Field::new("id", Type::Long), Field::new("n", Type::Text { length: None })],
            key: vec![0],
            catalogue: Default::default(),
        };
        let row = [Value::Integer(7), Value::Null];
        let key = KeyDigest::of(&projected, &row).unwrap();
        let answer = Answer {
            rows: 3,
            unknown: 1,
            sums: [(65_535, RangeSum { count: 2, sum: u128::MAX })].into(),
            digests: [(key, 5)].into(),
            details: [(
                key,
                Detail { fields: vec![1, u64::MAX], key: vec![row[0].clone()], source_key: None },
            )]
            .into(),
            asides: [(key, Aside { rule: "check".into(), at_replica: false })].into(),
        };
        let said = Told { answer, begins: [(0, 3)].into(), ends: [(0, 9), (1, 0)].into() };
        let heard = Word::decode(&written(said.clone()).encode(1)).unwrap();
        assert_eq!(told(heard, &projected).unwrap(), said);
        for asked in [Wanted::Known(key), Wanted::Clear(vec![row[0].clone()])] {
            let text = match &asked {
                Wanted::Known(digest) => format!("{digest:?}"),
                Wanted::Clear(key) => written_key(key).to_string(),
            };
            assert_eq!(wanted(&text, &projected), Some(asked));
        }
    }
}
