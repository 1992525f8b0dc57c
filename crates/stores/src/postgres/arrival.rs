//! What arrives in the replication stream, and what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Position, Result, Transaction};
use pgwire_replication::client::ReplicationEvent;

use super::captured::{Open, origin};
use super::fit::Plan;
use super::image::{Item, Maker};
use super::pgoutput::Message;
use super::reader::Reader;
use super::reread::{self, Missing};
use super::slot;

/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
const EPOCH_US: i64 = 946_684_800_000_000;

impl Reader {
    /// Takes one event in.
    pub(super) fn event(&mut self, event: ReplicationEvent) -> Result<()> {
        match event {
            ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
                self.assembly.begin();
                self.open = Some(Open {
                    commit_lsn: final_lsn.as_u64(),
                    xid,
                    committed_us: commit_time_micros + EPOCH_US,
                    lsn: final_lsn.as_u64(),
                    id: format!("{xid}:{}", final_lsn.as_u64()).into(),
                    index: 0,
                    order: 0,
                    orders: HashMap::new(),
                });
            }
            ReplicationEvent::Commit { end_lsn, .. } => {
                if let Some(open) = self.open.take() {
                    self.assembly.end(open.commit_lsn);
                }
                self.reach(end_lsn.as_u64());
            }
            // Inside a transaction a keepalive says nothing of what is committed.
            ReplicationEvent::KeepAlive { wal_end, .. } if self.open.is_none() => {
                self.reach(wal_end.as_u64());
            }
            ReplicationEvent::KeepAlive { .. } | ReplicationEvent::StoppedAt { .. } => {}
            ReplicationEvent::Message { prefix, content, transactional, .. } => {
                if transactional && let Some(open) = &mut self.open {
                    open.index += 1;
                }
                if prefix == slot::PREFIX {
                    self.begin_anew(&content);
                    self.mend(&content);
                }
                let passed = self.snapshot.as_mut().filter(|_| prefix == slot::PREFIX);
                if let Some(waiting) = passed.and_then(|snapshot| snapshot.passed(&content)) {
                    self.let_in(waiting);
                }
            }
            // Copied: the buffer is shared with the session's task, and counting shares between two cores costs more
            // for each cell than this for all.
            ReplicationEvent::XLogData { data, wal_start, .. } => {
                match Message::parse(&Bytes::copy_from_slice(&data))? {
                    Message::Relation(relation) => self.relation = Some(relation),
                    Message::Other => {}
                    message => {
                        if let Some(open) = &mut self.open {
                            open.lsn = wal_start.as_u64();
                        }
                        self.row_message(message)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn row_message(&mut self, message: Message) -> Result<()> {
        let relations = match &message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => {
                vec![*relation]
            }
            Message::Truncate { relations } => relations.clone(),
            Message::Relation(_) | Message::Other => return Ok(()),
        };
        let Some(open) = &mut self.open else {
            return Err(broken("a row message stands outside of a transaction"));
        };
        open.index += 1;
        // Counted also when nothing comes of it, so that a message has the same number each time it is sent.
        let known = relations.iter().map(|oid| self.relations.get(oid).copied()).collect::<Option<Vec<_>>>();
        let Some(known) = known else {
            return Err(broken("a row message comes before its relation message"));
        };
        let tables: Vec<usize> = known.into_iter().flatten().collect();
        match message {
            Message::Truncate { .. } => {
                for (part, table) in tables.into_iter().enumerate() {
                    self.truncated(table, u8::try_from(part).unwrap_or(u8::MAX));
                }
                Ok(())
            }
            message => match tables.first() {
                Some(table) => self.row(*table, message),
                None => Ok(()),
            },
        }
    }

    fn row(&mut self, table: usize, message: Message) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let (era, commit_lsn, index, xid) = (self.era, open.commit_lsn, open.index, open.xid);
        let position = move |part| Position::wal(era, commit_lsn, index, part);
        let captured = &self.tables[table];
        if captured.suspended.is_some() {
            if position(0) > self.skip {
                self.assembly.drop("suspended");
            }
            return Ok(());
        }
        let Some(plan) = &captured.plan else {
            let Some(why) = captured.unfit.clone() else {
                return Err(broken("a row message comes before its relation message"));
            };
            self.suspend(table, why);
            if position(0) > self.skip {
                self.assembly.drop("suspended");
            }
            return Ok(());
        };
        let origin = origin(captured, open);
        let maker = Maker { contract: &captured.contract, plan, origin: &origin, position: &position };
        let mut image = maker.image(message);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.streamed(table, xid, &captured.contract, &mut image);
        }
        let key = image.keys.pop().unwrap_or_default();
        for item in image.items {
            let incomplete = match &item {
                Item::Change(c) if c.after.as_deref().is_some_and(reread::is_incomplete) => Some(c.position),
                _ => None,
            };
            if self.push(table, item)
                && let Some(position) = incomplete
            {
                self.assembly.miss(Missing { table, key: key.clone(), xid, position, whole: false });
            }
        }
        Ok(())
    }

    fn truncated(&mut self, table: usize, part: u8) {
        let Some(open) = &self.open else { return };
        let (era, commit_lsn, index, xid) = (self.era, open.commit_lsn, open.index, open.xid);
        let captured = &self.tables[table];
        let position = move |part| Position::wal(era, commit_lsn, index, part);
        if captured.suspended.is_some() {
            if position(part) > self.skip {
                self.assembly.drop("suspended");
            }
            return;
        }
        let origin = origin(captured, open);
        let plan = Plan::default();
        let maker = Maker { contract: &captured.contract, plan: &plan, origin: &origin, position: &position };
        let item = maker.truncate(part);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.truncated(table, xid);
        }
        self.push(table, item);
    }

    /// Numbers a change in its transaction and hands it on; `false`: it is committed downstream already.
    fn push(&mut self, table: usize, mut item: Item) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.order += 1;
        let stream_order = open.orders.entry(table).or_default();
        *stream_order += 1;
        let position = match &mut item {
            Item::Change(change) => {
                change.origin.transaction = Some(Transaction {
                    id: Arc::clone(&open.id),
                    order: open.order,
                    stream_order: *stream_order,
                });
                change.position
            }
            Item::Rejected(rejected) => rejected.position,
        };
        let new = position > self.skip;
        if new {
            self.assembly.push(item);
        }
        new
    }
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::Broken, "read a message of the replication stream", why)
}
