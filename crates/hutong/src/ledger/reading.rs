//! The ledger as one reader has it: the place in the topic and the book of what was read.

use bytes::Bytes;
use hutong_bus::ledger::{Append, Found, Tail, topic};
use hutong_bus::log::Log;
use hutong_core::ledger::{Act, Book, Charter, Digest, Entry, PrivateKey, Taken};
use hutong_core::{Error, ErrorKind, Result};
use hutong_engine::status::now_us;

/// The ledger of a bus, as far as it was read.
pub struct Reading {
    topic: String,
    tail: Tail,
    /// What stands after the records that were read.
    pub book: Book,
    /// The records, for who asked to keep them.
    pub kept: Option<Vec<(Option<Bytes>, Taken)>>,
}

impl Reading {
    /// Makes a reading of which nothing was read yet; with `keep` it keeps the records.
    pub fn new(bus: &str, charter: Charter, keep: bool) -> Self {
        let topic = topic(bus);
        let tail = Tail::new(&topic);
        Self { topic, tail, book: Book::new(charter), kept: keep.then(Vec::new) }
    }

    /// Reads what is new.
    pub async fn catch_up(&mut self, log: &dyn Log) -> Result<()> {
        match self.tail.read(log).await? {
            Found::Records(records) => self.take(records),
            Found::Cut => Err(cut(&self.topic)),
        }
    }

    /// Takes records in; also those of an exported file.
    pub fn take(&mut self, records: Vec<Option<Bytes>>) -> Result<()> {
        for record in records {
            let taken = self.book.read(record.as_deref())?;
            if let Some(kept) = &mut self.kept {
                kept.push((record, taken));
            }
        }
        Ok(())
    }

    /// Drafts an entry as the next one. `Err(Denied)` when it would not count.
    pub fn draft(&self, department: &str, act: Act) -> Result<Entry> {
        let doing = format!("write `{}` into the ledger", act.name());
        let entry = Entry { department: department.to_owned(), at_us: now_us(), seen: self.book.head(), act };
        match self.book.would_take(&entry) {
            Ok(()) => Ok(entry),
            Err(why) => Err(Error::new(ErrorKind::Denied, doing, why)),
        }
    }

    /// Signs an entry and appends it, then reads until it stands. Returns its digest.
    ///
    /// Refused before anything is written when it would not count.
    pub async fn append(
        &mut self,
        (log, to): (&dyn Log, &dyn Append),
        department: &str,
        key: &PrivateKey,
        act: Act,
    ) -> Result<Digest> {
        let doing = format!("write `{}` into the ledger", act.name());
        let entry = self.draft(department, act)?;
        let refused = |why: String| Error::new(ErrorKind::Denied, doing.clone(), why);
        let public = self.book.members().get(department).map(|member| &member.key);
        if public != Some(&key.public()) {
            return Err(refused(format!("the private key is not the one that `{department}` has in it")));
        }
        let record = Bytes::from(entry.sign(self.book.charter(), key));
        to.append(&self.topic, record.clone()).await?;
        let keeps = self.kept.is_some();
        self.kept.get_or_insert_default();
        self.catch_up(log).await?;
        let kept = self.kept.iter().flatten().rev();
        let mut kept = kept.filter(|(bytes, _)| bytes.as_ref() == Some(&record));
        let found = kept.next().map(|(_, taken)| taken.clone());
        if !keeps {
            self.kept = None;
        }
        match found {
            Some(Taken::Entry { digest, .. }) => Ok(digest),
            // Somebody was quicker.
            Some(Taken::Skipped(skipped)) => Err(refused(skipped.to_string())),
            None => Err(Error::new(ErrorKind::Unknown, doing, "it was written and is not seen yet")
                .hint("`hutong ledger show` tells whether it stands")),
        }
    }
}

/// Says that a topic no longer holds what was read of it.
fn cut(topic: &str) -> Error {
    Error::new(ErrorKind::Broken, format!("read the ledger {topic}"), "it holds less than was read of it")
        .hint("somebody cut it: compare it with an export (`hutong ledger verify --file`)")
}
