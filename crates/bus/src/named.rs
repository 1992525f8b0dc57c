//! The header by which a record names the batch that it was written in, for whoever goes on in its trace.

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::traceparent::{self, Traceparent};

use crate::log::{Incoming, Outgoing};

/// Names the batch's span on its first record in each partition, for whoever reads on from there.
pub(crate) fn name_first(records: &mut [Outgoing], own: Traceparent) {
    let header = Bytes::from(own.to_string());
    let mut named: Vec<(Arc<str>, u32)> = Vec::new();
    for record in records {
        // Of a few partitions, and mostly of the last one again.
        if !named.iter().rev().any(|(topic, p)| *p == record.partition && *topic == record.topic) {
            record.headers.push((traceparent::HEADER.to_owned(), header.clone()));
            named.push((Arc::clone(&record.topic), record.partition));
        }
    }
}

/// Returns the batch that a record names. What is no such header is none, whoever wrote it.
pub(crate) fn named(record: &Incoming) -> Option<Traceparent> {
    let header = record.headers.iter().find(|(name, _)| name == traceparent::HEADER);
    header.and_then(|(_, value)| Traceparent::parse(value))
}
