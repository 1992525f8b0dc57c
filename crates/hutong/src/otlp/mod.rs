//! The spans of the lanes, sent to a collector by OTLP over HTTP: a feature of the build, `otlp`.
//!
//! Whether, where and how, OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin, in its
//! specification "OpenTelemetry Protocol Exporter"). Knows spans by their target and their fields, as the engine and the
//! bus make them; nothing of lanes. What cannot be sent is dropped: a collector that is away stops nobody.

mod told;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use hutong_core::trail::TARGET;
use hutong_core::{Error, ErrorKind, Result};
use opentelemetry::KeyValue;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor as _};
use tracing::span::{Attributes, Id};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use self::told::Told;

/// The variables that say where the collector is: without either nothing is sent.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// How long the end of the program waits for what was not sent yet.
const LAST: Duration = Duration::from_secs(3);

/// What the program sends, if it does.
static SENDS: OnceLock<Export> = OnceLock::new();

/// Sends the spans of [`TARGET`]. Clones send to the same collector.
#[derive(Clone)]
pub(crate) struct Export {
    processor: Arc<BatchSpanProcessor>,
}

/// Returns what sends, if a variable says where; `Err(Config)` when what the variables say is wrong.
pub(crate) fn begin() -> Option<Result<Export>> {
    ENDPOINTS.iter().find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))?;
    let export = SpanExporter::builder().with_http().build().map(Export::over).map_err(|e| {
        Error::caused(ErrorKind::Config, "send spans by OTLP", e)
            .hint("see OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _HEADERS; spans go over HTTP, port 4318")
    });
    if let Ok(export) = &export {
        // Only the first has an end to wait for.
        let _ = SENDS.set(export.clone());
    }
    Some(export)
}

/// Sends what was not sent yet, before the program ends.
pub(crate) fn end() {
    if let Some(export) = SENDS.get() {
        // Nobody is left whom it could be told.
        let _ = export.processor.shutdown_with_timeout(LAST);
    }
}

impl Export {
    fn over(exporter: SpanExporter) -> Self {
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more.
        let mut resource = Resource::builder().with_attributes([version]);
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("hutong");
        }
        processor.set_resource(&resource.build());
        Self { processor: Arc::new(processor) }
    }

    /// Returns the layer that sends, for the spans that it is about and no others.
    pub(crate) fn layer<S>(self) -> impl Layer<S> + Send + Sync
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let own = Targets::new().with_default(LevelFilter::OFF).with_target(TARGET, Level::DEBUG);
        self.with_filter(own)
    }
}

impl<S> Layer<S> for Export
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut told = Told::new(SystemTime::now());
        attributes.record(&mut told);
        if !told.is_named() {
            // A part of a batch's span, which names no place of its own; of no span at all it is not sent.
            let Some(around) = span.parent() else { return };
            match around.extensions().get::<Told>() {
                Some(batch) => told.follow(batch, rand::random()),
                None => return,
            }
        }
        span.extensions_mut().insert(told);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let told = span.extensions_mut().remove::<Told>();
        if let Some(told) = told {
            self.processor.on_end(told.ended(span.name(), SystemTime::now()));
        }
    }
}

#[cfg(test)]
mod tests;
