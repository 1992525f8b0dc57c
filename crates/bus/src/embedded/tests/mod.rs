//! The embedded bus and its registry, tested as their users see them.

mod api;
mod bus;
mod crash;
mod hostile;

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{Kind, LaneId, PipelineId};
use tempfile::TempDir;

use super::{Bus, Options};
use crate::log::{Log, Outgoing, TopicSpec};

/// A bus in a new folder.
fn bus() -> (TempDir, Arc<Bus>) {
    let folder = TempDir::new().unwrap();
    let bus = Bus::open(folder.path(), Options::default()).unwrap();
    (folder, bus)
}

async fn topic(bus: &Bus, name: &str, partitions: u32, compacted: bool) {
    assert_eq!(bus.ensure(&TopicSpec { name: name.into(), partitions, compacted }).await.unwrap(), [""; 0]);
}

fn lane(name: &str, partition: u32) -> LaneId {
    LaneId::new(PipelineId::new(Kind::Capture, name), partition)
}

fn record(topic: &str, partition: u32, value: impl Into<Bytes>) -> Outgoing {
    let headers =
        vec![("hutong".to_owned(), Bytes::from_static(b"\x00\xff")), ("empty".to_owned(), Bytes::new())];
    Outgoing {
        topic: topic.into(),
        partition,
        key: Some(Bytes::from_static(b"k")),
        value: Some(value.into()),
        headers,
    }
}
