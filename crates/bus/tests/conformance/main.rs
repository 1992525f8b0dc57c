//! The conformance suite over topics: on the embedded bus, and on a real Kafka with a real registry.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bus;
mod capture;
mod lossy;
mod replica;

mod sink_on_embedded {
    use crate::{bus::Embedded, capture::Topics};
    hutong_testkit::sink_conformance!(Topics<Embedded>);
}

mod source_on_embedded {
    use crate::{bus::Embedded, replica::Topic};
    hutong_testkit::source_conformance!(Topic<Embedded>);
}

mod sink_on_kafka {
    use crate::{bus::Kafka, capture::Topics};
    hutong_testkit::sink_conformance!(Topics<Kafka>);
}

mod source_on_kafka {
    use crate::{bus::Kafka, replica::Topic};
    hutong_testkit::source_conformance!(Topic<Kafka>);
}
