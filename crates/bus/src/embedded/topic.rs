//! Topics, extents and records as rows: plain functions over a connection, called inside a transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, params};

use super::error::Wrap;
use super::writer::Touched;
use crate::log::{Extent, Fetched, Headers, Incoming, Outgoing, TopicSpec};

/// A topic's row.
#[derive(Clone, Copy)]
pub(super) struct Topic {
    id: i64,
    compacted: bool,
}

/// Finds a topic by name.
pub(super) fn find(db: &Connection, name: &str) -> Result<Option<Topic>> {
    let doing = "find a topic";
    let mut query = db.prepare_cached("SELECT id, compacted FROM topic WHERE name = ?").doing(doing)?;
    query.query_row([name], |r| Ok(Topic { id: r.get(0)?, compacted: r.get(1)? })).optional().doing(doing)
}

/// Creates a topic when it is missing, and says in words how an existing one differs from the wish.
pub(super) fn ensure(db: &Connection, wish: &TopicSpec) -> Result<Vec<String>> {
    let Some(topic) = find(db, &wish.name)? else {
        create(db, wish)?;
        return Ok(Vec::new());
    };
    let mut drift = Vec::new();
    let partitions = extent(db, topic)?.len();
    if partitions != wish.partitions as usize {
        drift.push(format!("topic {} has {partitions} partitions, wanted {}", wish.name, wish.partitions));
    }
    if topic.compacted != wish.compacted {
        let word = |compacted| if compacted { "compacted" } else { "not compacted" };
        let (is, wanted) = (word(topic.compacted), word(wish.compacted));
        drift.push(format!("topic {} is {is}, wanted {wanted}", wish.name));
    }
    Ok(drift)
}

/// Makes sure that a compacted topic exists and has the partition; used for checkpoint topics, which have
/// one partition a lane and grow with the lanes.
pub(super) fn grow(db: &Connection, name: &str, partition: u32) -> Result<Topic> {
    let topic = match find(db, name)? {
        Some(topic) => topic,
        None => create(db, &TopicSpec { name: name.into(), partitions: 0, compacted: true })?,
    };
    let have = extent(db, topic)?.len() as u32;
    add_partitions(db, topic, have, partition.saturating_add(1))?;
    Ok(topic)
}

fn create(db: &Connection, wish: &TopicSpec) -> Result<Topic> {
    db.execute("INSERT INTO topic (name, compacted) VALUES (?, ?)", params![wish.name, wish.compacted])
        .doing("create a topic")?;
    let topic = Topic { id: db.last_insert_rowid(), compacted: wish.compacted };
    add_partitions(db, topic, 0, wish.partitions)?;
    Ok(topic)
}

fn add_partitions(db: &Connection, topic: Topic, from: u32, to: u32) -> Result<()> {
    let doing = "create partitions";
    let mut insert = db.prepare_cached("INSERT INTO extent VALUES (?, ?, 0, 0)").doing(doing)?;
    for partition in from..to {
        insert.execute(params![topic.id, partition]).doing(doing)?;
    }
    Ok(())
}

/// Returns the extent of every partition.
pub(super) fn extent(db: &Connection, topic: Topic) -> Result<Extent> {
    let doing = "read the extent of a topic";
    let mut query =
        db.prepare_cached("SELECT partition, first, next FROM extent WHERE topic = ?").doing(doing)?;
    let rows = query
        .query_map([topic.id], |r| Ok((r.get(0)?, (r.get::<_, i64>(1)? as u64, r.get::<_, i64>(2)? as u64))))
        .doing(doing)?;
    rows.collect::<rusqlite::Result<_>>().doing(doing)
}

/// Returns the half-open range of offsets of one partition; `None` when there is no such partition.
pub(super) fn range(db: &Connection, topic: Topic, partition: u32) -> Result<Option<(u64, u64)>> {
    let doing = "read the extent of a partition";
    let mut query =
        db.prepare_cached("SELECT first, next FROM extent WHERE topic = ? AND partition = ?").doing(doing)?;
    query
        .query_row(params![topic.id, partition], |r| {
            Ok((r.get::<_, i64>(0)? as u64, r.get::<_, i64>(1)? as u64))
        })
        .optional()
        .doing(doing)
}

/// Writes records behind the ends of their partitions and returns the offset of each (I4: in their order).
pub(super) fn append(db: &Connection, records: Vec<Outgoing>, touched: &mut Touched) -> Result<Vec<u64>> {
    let doing = "write records";
    let written_us = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
    let mut insert = db.prepare_cached("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)").doing(doing)?;
    let mut ends: HashMap<(Arc<str>, u32), (Topic, u64)> = HashMap::new();
    let mut offsets = Vec::with_capacity(records.len());
    for record in records {
        let Outgoing { topic: name, partition, key, value, headers } = record;
        let place = (name, partition);
        if !ends.contains_key(&place) {
            let found = end(db, &place.0, partition)?;
            ends.insert((Arc::clone(&place.0), partition), found);
        }
        let (topic, next) = ends.get_mut(&place).expect("it was put there just now");
        let offset = *next as i64;
        if topic.compacted {
            replace(db, *topic, partition, key.as_deref(), offset)?;
        }
        insert
            .execute(params![
                topic.id,
                partition,
                offset,
                written_us,
                key.as_deref(),
                value.as_deref(),
                pack(&headers)
            ])
            .doing(doing)?;
        offsets.push(*next);
        *next += 1;
    }
    let mut update =
        db.prepare_cached("UPDATE extent SET next = ? WHERE topic = ? AND partition = ?").doing(doing)?;
    for ((name, partition), (topic, next)) in ends {
        update.execute(params![next as i64, topic.id, partition]).doing(doing)?;
        touched.insert(name);
    }
    Ok(offsets)
}

/// Finds the end of a partition that a record is to be written to.
fn end(db: &Connection, name: &str, partition: u32) -> Result<(Topic, u64)> {
    let missing = |what: String| Error::new(ErrorKind::Config, format!("write to topic {name}"), what);
    let topic = find(db, name)?.ok_or_else(|| missing("there is no such topic".into()))?;
    let (_, next) =
        range(db, topic, partition)?.ok_or_else(|| missing(format!("it has no partition {partition}")))?;
    Ok((topic, next))
}

/// Removes the record that a newer one of the same key replaces.
fn replace(db: &Connection, topic: Topic, partition: u32, key: Option<&[u8]>, offset: i64) -> Result<()> {
    let doing = "replace a record of a compacted topic";
    let key = key.ok_or_else(|| Error::new(ErrorKind::Broken, doing, "the new record has no key"))?;
    db.prepare_cached(
        "DELETE FROM record WHERE topic = ?1 AND partition = ?2 AND offset =
            (SELECT offset FROM latest WHERE topic = ?1 AND partition = ?2 AND key = ?3)",
    )
    .doing(doing)?
    .execute(params![topic.id, partition, key])
    .doing(doing)?;
    db.prepare_cached("INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?)")
        .doing(doing)?
        .execute(params![topic.id, partition, key, offset])
        .doing(doing)?;
    Ok(())
}

/// Returns the value of the last record of a key in a compacted topic.
pub(super) fn last(db: &Connection, topic: Topic, partition: u32, key: &[u8]) -> Result<Option<Bytes>> {
    let doing = "read the last record of a key";
    let value: Option<Option<Vec<u8>>> = db
        .prepare_cached(
            "SELECT value FROM latest JOIN record USING (topic, partition, offset)
             WHERE latest.topic = ? AND latest.partition = ? AND latest.key = ?",
        )
        .doing(doing)?
        .query_row(params![topic.id, partition, key], |r| r.get(0))
        .optional()
        .doing(doing)?;
    Ok(value.flatten().map(Bytes::from))
}

/// Reads from an offset to about the limits; at least one record when there is one.
pub(super) fn read(
    db: &Connection,
    topic: Topic,
    partition: u32,
    from: u64,
    end: u64,
    (limit, limit_bytes): (usize, usize),
) -> Result<Fetched> {
    let doing = "read records";
    let mut query = db
        .prepare_cached(
            "SELECT offset, written_us, key, value, headers FROM record
             WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset",
        )
        .doing(doing)?;
    let mut rows = query.query(params![topic.id, partition, from as i64]).doing(doing)?;
    let mut fetched = Fetched { records: Vec::new(), next: end, end };
    let mut bytes = 0;
    while let Some(row) = rows.next().doing(doing)? {
        if fetched.records.len() >= limit.max(1) || (bytes >= limit_bytes && !fetched.records.is_empty()) {
            fetched.next = fetched.records.last().map_or(from, |r| r.offset + 1);
            break;
        }
        let read = |i: usize| row.get::<_, Option<Vec<u8>>>(i).doing(doing);
        let (key, value, headers) = (read(2)?, read(3)?, read(4)?);
        bytes += [&key, &value, &headers].iter().map(|b| b.as_ref().map_or(0, Vec::len)).sum::<usize>();
        fetched.records.push(Incoming {
            offset: row.get::<_, i64>(0).doing(doing)? as u64,
            written_us: row.get(1).doing(doing)?,
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            headers: headers.map_or(Ok(Headers::new()), |packed| unpack(packed.into()))?,
        });
    }
    Ok(fetched)
}

/// Returns the first kept offset whose record was written at a time or later; the end when there is none.
pub(super) fn since(db: &Connection, topic: Topic, partition: u32, written_us: i64) -> Result<Option<u64>> {
    let doing = "find an offset by time";
    let Some((first, next)) = range(db, topic, partition)? else { return Ok(None) };
    let mut query = db
        .prepare_cached(
            "SELECT offset, written_us FROM record WHERE topic = ? AND partition = ? AND offset >= ?
             ORDER BY offset LIMIT 1",
        )
        .doing(doing)?;
    // Everything before `low` is older, everything from `high` on is not.
    let (mut low, mut high) = (first, next);
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> = query
            .query_row(params![topic.id, partition, middle as i64], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()
            .doing(doing)?;
        match found {
            Some((offset, written)) if written < written_us => low = offset as u64 + 1,
            _ => high = middle,
        }
    }
    Ok(Some(low))
}

/// Moves the first kept offset of a partition forward, never back and never past the end; returns it.
pub(super) fn trim(db: &Connection, topic: Topic, partition: u32, before: u64) -> Result<Option<u64>> {
    let Some((first, next)) = range(db, topic, partition)? else { return Ok(None) };
    let first = first.max(before.min(next));
    db.prepare_cached("UPDATE extent SET first = ? WHERE topic = ? AND partition = ?")
        .and_then(|mut update| update.execute(params![first as i64, topic.id, partition]))
        .doing("trim a partition")?;
    Ok(Some(first))
}

/// Removes up to `limit` records before the first kept offset; returns how many.
pub(super) fn sweep(db: &Connection, topic: Topic, partition: u32, limit: usize) -> Result<usize> {
    let Some((first, _)) = range(db, topic, partition)? else { return Ok(0) };
    let doing = "remove trimmed records";
    // A key's entry goes with its record.
    db.prepare_cached("DELETE FROM latest WHERE topic = ? AND partition = ? AND offset < ?")
        .and_then(|mut delete| delete.execute(params![topic.id, partition, first as i64]))
        .doing(doing)?;
    db.prepare_cached(
        "DELETE FROM record WHERE topic = ?1 AND partition = ?2 AND offset IN
            (SELECT offset FROM record WHERE topic = ?1 AND partition = ?2 AND offset < ?3 ORDER BY offset LIMIT ?4)",
    )
    .and_then(|mut delete| delete.execute(params![topic.id, partition, first as i64, limit as i64]))
    .doing(doing)
}

/// Removes a topic with what it holds.
pub(super) fn delete(db: &Connection, topic: Topic) -> Result<()> {
    for table in ["latest", "record", "extent"] {
        db.execute(&format!("DELETE FROM {table} WHERE topic = ?"), [topic.id]).doing("delete a topic")?;
    }
    db.execute("DELETE FROM topic WHERE id = ?", [topic.id]).doing("delete a topic").map(drop)
}

/// Packs headers: for each the length of the name, the name, the length of the value, the value; lengths
/// are 4 bytes, big-endian.
fn pack(headers: &Headers) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for part in headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        packed.extend_from_slice(&(part.len() as u32).to_be_bytes());
        packed.extend_from_slice(part);
    }
    (!packed.is_empty()).then_some(packed)
}

fn unpack(mut packed: Bytes) -> Result<Headers> {
    let broken =
        || Error::new(ErrorKind::Broken, "read a record's headers", "they are not as Hutong packs them");
    let mut part = || -> Result<Option<Bytes>> {
        if packed.is_empty() {
            return Ok(None);
        }
        let length =
            packed.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or_else(broken)?;
        let _ = packed.split_to(4);
        if packed.len() < length as usize {
            return Err(broken());
        }
        Ok(Some(packed.split_to(length as usize)))
    };
    let mut headers = Headers::new();
    while let Some(name) = part()? {
        let name = String::from_utf8(name.to_vec()).map_err(|_| broken())?;
        headers.push((name, part()?.ok_or_else(broken)?));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_and_a_cut_is_an_error_or_an_end(
            headers in vec((".{0,9}", vec(any::<u8>(), 0..9)), 0..5),
        ) {
            let headers: Headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            let packed = Bytes::from(pack(&headers).unwrap_or_default());
            prop_assert_eq!(&unpack(packed.clone()).unwrap(), &headers);
            for cut in 0..packed.len() {
                if let Ok(fewer) = unpack(packed.slice(..cut)) {
                    prop_assert!(fewer.len() < headers.len() && headers.starts_with(&fewer));
                }
            }
        }
    }
}
