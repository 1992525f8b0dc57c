//! A topic as a source: one partition, filled by a capture, read through the reader that lanes share.

use std::sync::Arc;

use hutong_bus::log::{Log, checkpoint_topic};
use hutong_bus::{Limits, Shared, TopicSink, TopicSource, TopicSourceConfig};
use hutong_core::{
    Batch, Behind, Contract, Delta, Kind, LaneId, PipelineId, Position, Sink as _, Source, Type, Value,
};
use hutong_testkit::conformance::{BATCH_LIMIT, Fate, Features, SourceSite, Table, Write};
use std::time::Duration;
use tokio::sync::Mutex;

use crate::bus::Bus;
use crate::capture::{self, holds, topic};

/// The topic of one stream on a bus, and the capture that fills it.
pub(crate) struct Topic<B> {
    bus: B,
    log: Arc<dyn Log>,
    contract: Arc<Contract>,
    capture: Mutex<Capture>,
}

struct Capture {
    /// Open from the first transaction on.
    sink: Option<TopicSink>,
    table: Table,
    next: u64,
}

fn lane() -> LaneId {
    LaneId::new(PipelineId::new(Kind::Capture, "office"), 0)
}

impl<B: Bus> SourceSite for Topic<B> {
    const FEATURES: Features =
        Features { prunes: false, truncates: true, bounded: false, limited: B::LIMITED };

    async fn fresh(contract: &Arc<Contract>) -> Self {
        let bus = B::fresh().await;
        let log = Shared::new(bus.log());
        let capture = Mutex::new(Capture { sink: None, table: Table::new(contract), next: 0 });
        Self { bus, log, contract: Arc::clone(contract), capture }
    }

    fn source(&self) -> Box<dyn Source> {
        let config = TopicSourceConfig {
            topic: topic(&self.bus, &self.contract),
            partition: 0,
            contract: Arc::clone(&self.contract),
            checkpoint_topic: Some(checkpoint_topic(self.bus.name(), &lane().pipeline)),
            pipeline: Some(PipelineId::new(Kind::Replicate, "office")),
            foreign_before_full: false,
            limits: Limits {
                batch_limit: BATCH_LIMIT,
                watermark_interval: Duration::from_millis(20),
                ..Limits::default()
            },
        };
        Box::new(TopicSource::new(Arc::clone(&self.log), self.bus.registry(), config))
    }

    async fn write(&self, writes: &[Write]) {
        let Capture { sink, table, next } = &mut *self.capture.lock().await;
        let from = *next;
        let steps: Vec<_> = writes.iter().flat_map(|write| table.write(write)).collect();
        let changes = steps.iter().map(|step| {
            *next += 1;
            step.change(&self.contract, Position::wal(0, *next, 0, 0))
        });
        let changes = changes.collect();
        let place = |step| if step == 0 { Position::START } else { Position::wal(0, step, 0, 0) };
        let delta = Delta::range("wal", place(from), place(*next));
        let behind = Behind { complete_to_us: Some(*next as i64), ..Behind::default() };
        let batch = Batch { changes, delta, behind, ..Batch::default() };
        if sink.is_none() {
            let mut opened = capture::sink(&self.bus, self.bus.log(), &self.contract, 1);
            opened.open(&lane()).await.unwrap();
            *sink = Some(opened);
        }
        let sink = sink.as_mut().unwrap();
        assert_eq!(sink.commit(&batch).await.unwrap().count(), 0);
        // An idle capture says until when its topics are complete.
        let idle =
            Batch { delta: Delta::range("wal", place(*next), place(*next)), behind, ..Batch::default() };
        sink.commit(&idle).await.unwrap();
    }

    fn fate(_: &Type, value: &Value) -> Fate {
        if holds(value) { Fate::Carried } else { Fate::Impossible }
    }
}
