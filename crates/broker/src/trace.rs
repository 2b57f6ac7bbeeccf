//! W3C trace context in record headers: written on send, read around handling, and nowhere else.

use bytes::Bytes;
use opentelemetry::global;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::record::{Headers, Outgoing, Record};

const TRACEPARENT: &str = "traceparent";

struct Carrier<'a>(&'a mut Headers);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.into(), Bytes::from(value)));
    }
}

struct Carried<'a>(&'a Headers);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        std::str::from_utf8(value).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Gives the current span's context to each record that has none of its own.
pub(crate) fn inject_all(records: &mut [Outgoing]) {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return;
    }
    global::get_text_map_propagator(|propagator| {
        for record in &mut *records {
            if !record.headers.iter().any(|(name, _)| name == TRACEPARENT) {
                propagator.inject_context(&context, &mut Carrier(&mut record.headers));
            }
        }
    });
}

/// The span around the handling of a record, child of the span that sent it.
pub(crate) fn process_span(record: &Record) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {}", record.topic),
        otel.kind = "consumer",
        topic = %record.topic,
        partition = record.partition,
        offset = record.offset,
    );
    if !span.is_disabled() {
        let parent = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&opentelemetry::Context::new(), &Carried(&record.headers))
        });
        // Without OpenTelemetry in the subscriber there is nothing to set.
        let _absent = span.set_parent(parent);
    }
    span
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn received(record: Outgoing) -> Record {
        Record {
            topic: record.topic.into(),
            partition: 0,
            offset: 0,
            timestamp: 0,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    #[test]
    fn a_trace_goes_on_where_the_record_is_handled() {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let carried = Outgoing::new("t", "k", vec![]).with_header(TRACEPARENT, "as it was");
        let mut records = vec![Outgoing::new("t", "k", vec![]), carried];
        let sent = tracing::info_span!("send").in_scope(|| {
            inject_all(&mut records);
            Span::current().context().span().span_context().trace_id()
        });
        assert_eq!(
            records[1].headers,
            [(TRACEPARENT.to_owned(), Bytes::from_static(b"as it was"))]
        );
        let handled = process_span(&received(records.remove(0)));
        assert_eq!(handled.context().span().span_context().trace_id(), sent);
        let alone = process_span(&received(records.remove(0)));
        assert_ne!(alone.context().span().span_context().trace_id(), sent);
    }

    #[test]
    fn without_a_trace_no_header_is_added() {
        let mut records = vec![Outgoing::new("t", "k", vec![])];
        inject_all(&mut records);
        assert!(records[0].headers.is_empty());
    }
}
