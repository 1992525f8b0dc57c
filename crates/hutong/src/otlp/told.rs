//! One span as its fields tell it, and as OpenTelemetry's model has it.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hutong_core::Traceparent;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tracing::field::{Field, Visit};

/// What is known of a span that has begun.
pub(super) struct Told {
    began: SystemTime,
    trace: u128,
    span: u64,
    parent: u64,
    /// Whether the parent was another process's, or another lane's.
    remote: bool,
    /// The batches that it goes on from; the first is the parent.
    followed: Vec<Traceparent>,
    /// When the first of its changes was committed at its source, microseconds since 1970 UTC.
    committed_us: Option<i64>,
    attributes: Vec<KeyValue>,
}

impl Told {
    pub(super) fn new(began: SystemTime) -> Self {
        Self {
            began,
            trace: 0,
            span: 0,
            parent: 0,
            remote: false,
            followed: Vec::new(),
            committed_us: None,
            attributes: Vec::new(),
        }
    }

    /// States whether its fields say where it stands in a trace.
    pub(super) fn is_named(&self) -> bool {
        self.trace != 0 && self.span != 0
    }

    /// Makes it a part of another span, under a number drawn at random.
    pub(super) fn follow(&mut self, around: &Self, span: u64) {
        (self.trace, self.parent, self.span) = (around.trace, around.span, span.max(1));
    }

    /// Returns it as it is sent.
    pub(super) fn ended(self, name: &'static str, now: SystemTime) -> SpanData {
        let context = |trace: u128, span: u64| {
            SpanContext::new(
                TraceId::from(trace),
                SpanId::from(span),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            )
        };
        let since = self.committed_us.and_then(|us| u64::try_from(us).ok());
        let committed = since.map(|us| UNIX_EPOCH + Duration::from_micros(us));
        // The way of a change begins where it was committed.
        let start_time = match committed {
            Some(committed) if name == "capture" => committed.min(self.began),
            _ => self.began,
        };
        let others = self.followed.iter().skip(1);
        let mut links = SpanLinks::default();
        links.links.extend(others.map(|of| Link::new(context(of.trace, of.span), Vec::new(), 0)));
        SpanData {
            span_context: context(self.trace, self.span),
            parent_span_id: SpanId::from(self.parent),
            parent_span_is_remote: self.remote,
            span_kind: match name {
                "capture" => SpanKind::Producer,
                "replicate" | "deliver" => SpanKind::Consumer,
                _ => SpanKind::Internal,
            },
            name: name.into(),
            start_time,
            end_time: now.max(start_time),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("hutong").build(),
        }
    }

    fn tell(&mut self, name: &str, value: impl Into<opentelemetry::Value>) {
        self.attributes.push(KeyValue::new(format!("hutong.{name}"), value));
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace" => self.trace = u128::from_str_radix(value, 16).unwrap_or_default(),
            "span" => self.span = u64::from_str_radix(value, 16).unwrap_or_default(),
            "parent" => {
                self.parent = u64::from_str_radix(value, 16).unwrap_or_default();
                self.remote = true;
            }
            "followed" => {
                let batches = value.split(' ').filter_map(|text| Traceparent::parse(text.as_bytes()));
                self.followed = batches.collect();
            }
            name => self.tell(name, value.to_owned()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "committed_us" {
            self.committed_us = Some(value);
        }
        self.tell(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "read_us" {
            // It began when the first of it was read.
            self.began = self.began.checked_sub(Duration::from_micros(value)).unwrap_or(self.began);
        }
        self.tell(field.name(), i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.tell(field.name(), format!("{value:?}"));
    }
}
