//! Logs as JSON, one object a line: the event's own fields, then those of the spans around it, the nearest first. Also
//! where nobody reads JSON, each service's last lines are kept from here.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;

use opentelemetry::trace::TraceContextExt;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::dispatcher::WeakDispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::levels::Levels;
use crate::service::{Owner, marks, owner};
use crate::tail::{self, Line, Tails};

/// Names that every line has; a field of that name is not written twice.
const TAKEN: [&str; 7] = [
    "timestamp",
    "level",
    "service",
    "site",
    "target",
    "message",
    "trace_id",
];

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    Stdout,
    Memory(Arc<Mutex<Vec<String>>>),
    /// Another layer writes them.
    Nowhere,
}

impl Sink {
    fn write(&self, line: String) {
        match self {
            // A log that cannot be written must not end the service that wrote it.
            Self::Stdout => drop(writeln!(std::io::stdout().lock(), "{line}")),
            Self::Memory(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).push(line),
            Self::Nowhere => {}
        }
    }
}

#[derive(Debug)]
pub(crate) struct Lines {
    sink: Sink,
    tails: Tails,
    levels: Levels,
    dispatch: OnceLock<WeakDispatch>,
}

impl Lines {
    pub(crate) fn new(sink: Sink, tails: Tails, levels: Levels) -> Self {
        Self {
            sink,
            tails,
            levels,
            dispatch: OnceLock::new(),
        }
    }

    fn trace_id(&self, span: Option<Id>) -> Option<String> {
        let dispatch = self.dispatch.get()?.upgrade()?;
        let context = tracing_opentelemetry::get_otel_context(&span?, &dispatch)?;
        let span = context.span().span_context().clone();
        span.is_valid().then(|| span.trace_id().to_string())
    }
}

/// The fields of a span or an event.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0
            .insert(field.name().trim_start_matches("r#").into(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.dispatch.get_or_init(|| dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let message = fields.remove("message").unwrap_or_default();
        let mut told = true;
        for span in context.event_scope(event).into_iter().flatten() {
            told &= !tail::hides(span.metadata());
            // What the service's own span says, every line has.
            if marks(span.metadata()) {
                continue;
            }
            if let Some(Fields(outer)) = span.extensions().get::<Fields>() {
                for (name, value) in outer {
                    fields.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        let owner = owner(context.event_span(event), Owner::clone).unwrap_or_default();
        if told && !owner.service.is_empty() {
            let since_1970 = UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
            let at = i64::try_from(since_1970).unwrap_or(i64::MAX);
            self.tails
                .keep(&owner, Line::new(at, event.metadata(), &message, &fields));
        }
        if matches!(self.sink, Sink::Nowhere) || !self.levels.wants(event.metadata(), &owner) {
            return;
        }
        let trace_id = self.trace_id(context.event_span(event).map(|span| span.id()));
        let mut timestamp = String::new();
        if SystemTime.format_time(&mut Writer::new(&mut timestamp)).is_err() {
            timestamp.clear();
        }
        let head = [
            ("timestamp", Some(timestamp.as_str())),
            ("level", Some(event.metadata().level().as_str())),
            ("service", Some(owner.service.as_str())),
            ("site", Some(owner.site.as_str())),
            ("target", Some(event.metadata().target())),
            ("trace_id", trace_id.as_deref()),
        ];
        let mut line = Vec::with_capacity(256);
        if write_line(&mut line, &head, &message, &fields).is_ok() {
            self.sink.write(String::from_utf8_lossy(&line).into_owned());
        }
    }
}

fn write_line(
    line: &mut Vec<u8>,
    head: &[(&str, Option<&str>)],
    message: &Value,
    fields: &Map<String, Value>,
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    for (name, value) in head {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            map.serialize_entry(name, value)?;
        }
    }
    map.serialize_entry("message", message)?;
    for (name, value) in fields.iter().filter(|(name, _)| !TAKEN.contains(&name.as_str())) {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
