//! The span that says whose work is being done.

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

const TARGET: &str = "telemetry::service";

/// The span around all that a service does; it is never filtered away, and is no part of any trace.
pub fn service_span(site: &str, service: &str) -> Span {
    tracing::info_span!(target: TARGET, parent: None, "service", site, service)
}

/// Whether a span is the one around a service.
pub(crate) fn marks(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

/// Whose work it is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) site: String,
    pub(crate) service: String,
}

impl Visit for Owner {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "site" => self.site = value.into(),
            "service" => self.service = value.into(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Calls `read` with the owner of a span, the nearest where service spans are nested.
pub(crate) fn owner<'a, S, T>(span: Option<SpanRef<'a, S>>, read: impl FnOnce(&Owner) -> T) -> Option<T>
where
    S: LookupSpan<'a>,
{
    let span = span?
        .scope()
        .find(|span| span.extensions().get::<Owner>().is_some())?;
    let extensions = span.extensions();
    extensions.get::<Owner>().map(read)
}

/// Keeps the owner beside each service span, for the layers that come after.
#[derive(Debug)]
pub(crate) struct Services;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Services {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && marks(span.metadata())
        {
            let mut owner = Owner::default();
            attributes.record(&mut owner);
            span.extensions_mut().insert(owner);
        }
    }
}
