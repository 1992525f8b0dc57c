//! The two halves apart: questions and answers in a topic of the bus.
//!
//! Where no process reaches both databases, the half beside the replica asks here, and a process beside the source
//! answers ([`serve`]). What stands in the topic is digests, places, and the keys of rows that differ; never a row. Who
//! asks cannot widen a grant: the source half tells only what it lets through, under a mark that both must know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hutong_bus::SchemaRegistry;
use hutong_bus::ledger::Append;
use hutong_bus::log::{Log, RECORD_LIMIT_BYTES, Reader};
use hutong_bus::verification::{self, Word};
use hutong_core::verify::Ask;
use hutong_core::{Class, Contract, Error, ErrorKind, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::source::{Half, Told, Wanted};
use super::words::{PART_BYTES, Partial, asked, question, told, wanted, wish, written};

/// How often the topic is looked at while nobody has made it.
const LOOK: Duration = Duration::from_millis(300);

/// How long an answer may take before the question is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the topic keeps what was said, in microseconds: it names the keys of rows that differed.
const KEPT_US: i64 = 86_400_000_000;

/// How many sessions are remembered whose questions were answered.
const SESSIONS: usize = 1_000;

/// What a record may have for its value: the rest is its framing.
const WORD_BYTES: usize = RECORD_LIMIT_BYTES - (4 << 10);

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
        let record = word.encode(schema);
        if record.len() > WORD_BYTES {
            let doing = format!("say `{}` in {}", word.word, self.topic);
            let why = format!("it has {} bytes, and a record may have {WORD_BYTES}", record.len());
            return Err(Error::new(ErrorKind::Refused, doing, why)
                .hint("`hutong subscription reload NAME` fills the replica anew without a comparison"));
        }
        self.append.append(&self.topic, record).await
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

    /// Waits for the next words. A record that says none that this program knows is passed over and counted: anybody
    /// who may write into the topic could stop both halves otherwise.
    async fn heard(&self, reader: &mut dyn Reader, passed_over: &mut u64) -> Result<Vec<Word>> {
        let fetched = reader.next(100, RECORD_LIMIT_BYTES).await?;
        let mut words = Vec::with_capacity(fetched.records.len());
        for record in &fetched.records {
            match record.value.as_ref().map(Word::decode) {
                Some(Ok(word)) => words.push(word),
                None => *passed_over += 1,
                Some(Err(error)) => {
                    *passed_over += 1;
                    let (topic, offset) = (&self.topic, record.offset);
                    warn!(topic, offset, %error, "what was said in a comparison cannot be read and is passed over");
                }
            }
        }
        Ok(words)
    }
}

/// Returns a name that nobody else has.
fn name() -> String {
    format!("{:x}-{:x}", jiff::Timestamp::now().as_nanosecond(), std::process::id())
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
        Self { exchange, session: name(), number: 0, patience }
    }

    /// Says a word, and waits for all words of its answer. Returns them, and how many records were passed over meanwhile.
    async fn answer(&mut self, word: Word) -> Result<(Vec<Word>, u64)> {
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
        let mut passed_over = 0;
        let answered = async {
            let mut reader = self.exchange.listen(from).await?;
            let (mut again, mut partial) = (Instant::now() + AGAIN, Partial::default());
            loop {
                let words = tokio::select! {
                    words = self.exchange.heard(reader.as_mut(), &mut passed_over) => words?,
                    () = tokio::time::sleep_until(again) => {
                        // Nobody may have listened yet; who has answered already does not answer twice.
                        self.exchange.say(&word).await?;
                        again = Instant::now() + AGAIN;
                        continue;
                    }
                };
                let mine = |heard: &Word| {
                    heard.session == self.session
                        && heard.number == self.number
                        && !matches!(&*heard.word, "ask" | "mend")
                };
                let mut answers = words.into_iter().filter(mine);
                if let Some(answer) = answers.find_map(|word| partial.take(word)) {
                    return Ok(answer);
                }
            }
        };
        let answered = tokio::time::timeout_at(until, answered).await;
        let words = answered.map_err(|_| self.silent(passed_over))??;
        if let Some(failed) = words.iter().find(|word| word.word == "failed") {
            let (doing, why) = (self.doing(), format!("beside the source: {}", failed.problem));
            return Err(Error::new(ErrorKind::Unavailable, doing, why).hint(&failed.hint));
        }
        Ok((words, passed_over))
    }

    fn doing(&self) -> String {
        format!("ask in {}", self.exchange.topic)
    }

    /// Says that no answer came.
    fn silent(&self, passed_over: u64) -> Error {
        let (mut why, mut hint) = (
            "nobody answers beside the source".to_owned(),
            "where the stream is captured, run `hutong verify SUBSCRIPTION --half source`; --patience waits longer",
        );
        if passed_over > 0 {
            why = format!("{why}, and {passed_over} records of the topic cannot be read");
            hint = "run one version of Hutong on both sides, beside the source `hutong verify SUBSCRIPTION --half source`; \
                    the log names the records";
        }
        Error::new(ErrorKind::Unavailable, self.doing(), why).hint(hint)
    }
}

#[async_trait]
impl Half for Asked {
    async fn tell(&mut self, ask: &Ask, skip: &[usize], settled: bool) -> Result<Told> {
        let skip = skip.iter().map(|at| self.exchange.projected.fields[*at].name.clone()).collect();
        let (words, passed_over) = self.answer(Word { skip, settled, ..question(ask) }).await?;
        let told = told(words, &self.exchange.projected).map_err(|why| {
            Error::new(ErrorKind::Broken, format!("read an answer in {}", self.exchange.topic), why)
        })?;
        Ok(Told { passed_over, ..told })
    }

    async fn mend(&mut self, wanted: &[Wanted]) -> Result<()> {
        let (mut mend, mut bytes) = (Vec::new(), 0);
        for wish in wanted.iter().map(wish) {
            // Another question when there is no room in this one.
            if !mend.is_empty() && bytes + wish.len() > PART_BYTES {
                let mend = std::mem::take(&mut mend);
                self.answer(Word { word: "mend".into(), mend, ..Word::default() }).await?;
                bytes = 0;
            }
            bytes += wish.len();
            mend.push(wish);
        }
        self.answer(Word { word: "mend".into(), mend, ..Word::default() }).await.map(drop)
    }
}

/// Answers what is asked in a topic from now on, until it is told to stop. What cannot be answered is said so.
pub async fn serve(exchange: &Exchange, half: &mut dyn Half, token: &CancellationToken) -> Result<()> {
    let from = exchange.end().await?;
    answers(exchange, from, half, token).await
}

async fn answers(
    exchange: &Exchange,
    from: u64,
    half: &mut dyn Half,
    token: &CancellationToken,
) -> Result<()> {
    let mut answered: HashMap<String, u64> = HashMap::new();
    let (mut passed_over, by) = (0, name());
    let stopped = token.cancelled();
    tokio::pin!(stopped);
    let mut reader = tokio::select! {
        () = &mut stopped => return Ok(()),
        reader = exchange.listen(from) => reader?,
    };
    loop {
        let words = tokio::select! {
            () = &mut stopped => return Ok(()),
            words = exchange.heard(reader.as_mut(), &mut passed_over) => words?,
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
                answer = reply(exchange, half, word, &by) => answer.unwrap_or_else(|error| vec![failed(exchange, &error)]),
            };
            for part in answer {
                let part = Word { session: session.clone(), number, ..part };
                match exchange.say(&part).await {
                    Err(error) if error.class() == Class::Quarantine || error.kind == ErrorKind::Config => {
                        // Whoever asks hears why, and the next question may be answered.
                        let failed = failed(exchange, &error);
                        exchange.say(&Word { session: session.clone(), number, ..failed }).await?;
                        break;
                    }
                    said => said?,
                };
            }
        }
    }
}

fn failed(exchange: &Exchange, error: &Error) -> Word {
    warn!(topic = exchange.topic, %error, "cannot answer");
    let hint = error.hint.clone().unwrap_or_default();
    Word { word: "failed".into(), problem: error.to_string(), hint, ..Word::default() }
}

async fn reply(exchange: &Exchange, half: &mut dyn Half, word: Word, by: &str) -> Result<Vec<Word>> {
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
        return Ok(vec![Word { word: "mended".into(), ..Word::default() }]);
    }
    let unknown = "it is asked about something that this program does not know";
    let ask = asked(&word).ok_or_else(|| broken(unknown))?;
    let skip = word.skip.iter().map(|name| exchange.projected.index(name));
    let skip: Vec<usize> = skip.collect::<Option<_>>().ok_or_else(|| broken("a field is not granted"))?;
    let told = half.tell(&ask, &skip, word.settled).await?;
    written(&told, by, PART_BYTES).ok_or_else(|| {
        Error::new(ErrorKind::Refused, doing(), "the answer is too large for the topic")
            .hint("so much differs that `hutong subscription reload NAME` is the way to mend it")
    })
}

#[cfg(test)]
#[path = "exchange_test.rs"]
mod tests;
