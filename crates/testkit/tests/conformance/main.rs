//! The suite over the ports in memory; and over ports with one fault each, which it must find.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faulty;

use std::sync::{Arc, Mutex};

use hutong_core::{Batch, Contract, Position, Row, Sink, Source};
use hutong_testkit::conformance::{BATCH_LIMIT, Features, Seen, SinkSite, SourceSite, Table, Write};
use hutong_testkit::memory::{Fault, Shared};

/// Ports in memory: a sink and a source.
struct Memory {
    world: Shared,
    contract: Arc<Contract>,
    /// The department's table, and the place of its next change in the log.
    department: Mutex<(Table, u64)>,
}

impl Memory {
    fn new(contract: &Arc<Contract>) -> Self {
        let world = Shared::default();
        world.lock().batch_limit = BATCH_LIMIT;
        let department = Mutex::new((Table::new(contract), 0));
        Self { world, contract: Arc::clone(contract), department }
    }
}

impl SinkSite for Memory {
    async fn fresh(contract: &Arc<Contract>) -> Self {
        Self::new(contract)
    }

    fn sink(&self) -> Box<dyn Sink> {
        self.world.sink()
    }

    async fn seen(&self) -> Seen {
        let world = self.world.lock();
        let rows: Vec<Row> = world.rows.values().cloned().collect();
        Seen { rows, taken: world.applied.len() as u64, quarantined: world.rejected as u64 }
    }

    async fn commit_unheard(&self, sink: &mut dyn Sink, batch: &Batch) {
        self.world.lock().faults.push_back(Fault::FailAfterWrite);
        sink.commit(batch).await.unwrap_err();
    }
}

impl SourceSite for Memory {
    const FEATURES: Features = Features { prunes: true, truncates: true, bounded: true, limited: true };

    async fn fresh(contract: &Arc<Contract>) -> Self {
        Self::new(contract)
    }

    fn source(&self) -> Box<dyn Source> {
        self.world.source()
    }

    async fn write(&self, writes: &[Write]) {
        let (table, next) = &mut *self.department.lock().unwrap();
        for step in writes.iter().flat_map(|write| table.write(write)) {
            self.world.lock().log.insert(*next, step.change(&self.contract, Position::offset(*next)));
            *next += 1;
        }
    }
}

mod sink {
    use super::Memory;
    hutong_testkit::sink_conformance!(Memory);
}

mod source {
    use super::Memory;
    hutong_testkit::source_conformance!(Memory);
}
