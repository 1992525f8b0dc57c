//! Reads a lane's checkpoints: the last record first, then each new one.

use hutong_core::{Error, ErrorKind, PipelineId, Result};

use crate::log::{Fetched, Log, Reader, checkpoint_topic};
use crate::watermark::Watermark;

/// How far before the end the last record is looked for, before the whole topic is read.
const TAIL: u64 = 64;

/// A reader of one lane's checkpoints.
pub(crate) struct Watch {
    topic: String,
    reader: Box<dyn Reader>,
    first: u64,
    /// Where it began to look, where the topic ended then, and the last record that was seen.
    sought: u64,
    end: u64,
    last: Option<Watermark>,
    caught_up: bool,
}

impl Watch {
    /// Starts near the end of a lane's partition of a checkpoint topic; `None` while there is none.
    pub(crate) async fn open(log: &dyn Log, topic: &str, partition: u32) -> Result<Option<Self>> {
        let Some((first, end)) = log.extent(topic).await?.and_then(|e| e.get(&partition).copied()) else {
            return Ok(None);
        };
        let mut reader = log.reader(topic, partition, None).await?;
        let sought = first.max(end.saturating_sub(TAIL));
        seek(reader.as_mut(), topic, sought).await?;
        Ok(Some(Self {
            topic: topic.to_owned(),
            reader,
            first,
            sought,
            end,
            last: None,
            caught_up: sought == end,
        }))
    }

    /// Returns the last record; waits until the end is reached, as it stood when the watch began. `None` when there is
    /// none yet. Cancel safe.
    pub(crate) async fn last(&mut self) -> Result<Option<Watermark>> {
        loop {
            while !self.caught_up {
                self.read().await?;
            }
            if self.last.is_some() || self.sought == self.first {
                break;
            }
            // A long stretch of aborted transactions hides it.
            seek(self.reader.as_mut(), &self.topic, self.first).await?;
            (self.sought, self.caught_up) = (self.first, false);
        }
        Ok(self.last.clone())
    }

    /// Waits for the next record; for ever when there is no watch. Cancel safe.
    pub(crate) async fn next(watch: &mut Option<Self>) -> Result<Watermark> {
        let Some(watch) = watch else { return std::future::pending().await };
        loop {
            if let Some(watermark) = watch.read().await? {
                return Ok(watermark);
            }
        }
    }

    /// Reads once; returns the newest record of what came.
    async fn read(&mut self) -> Result<Option<Watermark>> {
        let Fetched { records, next, end } = self.reader.next(1_000, 4 << 20).await?;
        // Of a lane that never rests the reader may not see the end for long: where it stood is far enough.
        self.caught_up = next >= end.min(self.end);
        let Some(value) = records.into_iter().rev().find_map(|r| r.value) else { return Ok(None) };
        let watermark = Watermark::decode(&value).map_err(|e| {
            Error::new(ErrorKind::Broken, format!("read the watermarks of {}", self.topic), e.why())
                .hint("run the version of Hutong that wrote it, or look at the checkpoint topic")
        })?;
        self.last = Some(watermark.clone());
        Ok(Some(watermark))
    }
}

/// Returns where a capture stands and how fresh its topics are, as it has last committed; `None` when it never has.
///
/// Reads only; waits until the end of its checkpoint topic is reached.
pub async fn latest(log: &dyn Log, bus: &str, pipeline: &PipelineId) -> Result<Option<Watermark>> {
    // A capture has one lane.
    match Watch::open(log, &checkpoint_topic(bus, pipeline), 0).await? {
        Some(mut watch) => watch.last().await,
        None => Ok(None),
    }
}

/// Seeks. A place that has gone meanwhile is no lost position of the lane: it looks again.
async fn seek(reader: &mut dyn Reader, topic: &str, offset: u64) -> Result<()> {
    reader.seek(offset).await.map_err(|error| match error.kind {
        ErrorKind::PositionLost => Error::new(ErrorKind::Unavailable, format!("read {topic}"), error.why()),
        _ => error,
    })
}
