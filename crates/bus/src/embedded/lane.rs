//! The writer of one lane: its epoch, and commits of records with their checkpoint.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, LaneId, Result};
use rusqlite::{Connection, OptionalExtension, params};

use super::error::Wrap;
use super::log::Bus;
use super::topic;
use crate::log::{Headers, Outgoing, checkpoint_topic};

/// The one writer of a lane.
pub(super) struct Writer {
    bus: Arc<Bus>,
    lane: Arc<str>,
    checkpoint_topic: Arc<str>,
    partition: u32,
    epoch: Option<i64>,
}

impl Writer {
    /// Makes a writer; it touches nothing.
    pub(super) fn new(bus: Arc<Bus>, lane: &LaneId) -> Self {
        let checkpoint_topic = checkpoint_topic(bus.name(), &lane.pipeline).into();
        Self { bus, lane: lane.to_string().into(), checkpoint_topic, partition: lane.partition, epoch: None }
    }
}

#[async_trait]
impl crate::log::Writer for Writer {
    async fn open(&mut self) -> Result<Option<Bytes>> {
        let (lane, name, partition) =
            (Arc::clone(&self.lane), Arc::clone(&self.checkpoint_topic), self.partition);
        // Commits run one after the other, so those of earlier owners have ended when this one runs.
        let (epoch, checkpoint) = self
            .bus
            .writes()?
            .run(move |db, _| {
                let epoch = raise(db, &lane)?;
                let topic = topic::grow(db, &name, partition)?;
                Ok((epoch, topic::last(db, topic, partition, lane.as_bytes())?))
            })
            .await?;
        self.epoch = Some(epoch);
        Ok(checkpoint)
    }

    async fn commit(&mut self, mut records: Vec<Outgoing>, checkpoint: Bytes) -> Result<Vec<u64>> {
        let doing = format!("commit lane {}", self.lane);
        let Some(epoch) = self.epoch else {
            return Err(Error::new(ErrorKind::Broken, doing, "the lane was not opened"));
        };
        records.push(Outgoing {
            topic: Arc::clone(&self.checkpoint_topic),
            partition: self.partition,
            key: Some(Bytes::copy_from_slice(self.lane.as_bytes())),
            value: Some(checkpoint),
            headers: Headers::new(),
        });
        let lane = Arc::clone(&self.lane);
        self.bus
            .writes()?
            .run(move |db, touched| {
                if current(db, &lane)? != Some(epoch) {
                    return Err(Error::new(ErrorKind::Fenced, doing, "a newer owner has taken it"));
                }
                // I2: records and checkpoint in one savepoint of one transaction.
                let mut offsets = topic::append(db, records, touched)?;
                offsets.pop();
                Ok(offsets)
            })
            .await
    }
}

fn raise(db: &Connection, lane: &str) -> Result<i64> {
    db.query_row(
        "INSERT INTO lane_epoch VALUES (?, 1) ON CONFLICT (lane) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        [lane],
        |r| r.get(0),
    )
    .doing("take a lane over")
}

fn current(db: &Connection, lane: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT epoch FROM lane_epoch WHERE lane = ?")
        .and_then(|mut query| query.query_row(params![lane], |r| r.get(0)).optional())
        .doing("read the epoch of a lane")
}
