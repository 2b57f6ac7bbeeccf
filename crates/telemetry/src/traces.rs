//! Traces by OTLP over HTTP, sent in batches by a thread of the SDK's own.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::{Error, Result, Traces, service, tail};

#[derive(Debug)]
pub(crate) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Starts sending, if there is somewhere to send to.
    pub(crate) fn start(settings: &Traces, name: &str) -> Result<Option<Self>> {
        let Some(endpoint) = settings
            .endpoint
            .as_deref()
            .filter(|endpoint| !endpoint.is_empty())
        else {
            return Ok(None);
        };
        // The exporter's client wants a provider even for plain http; an error means that there is one already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|source| Error::Traces {
                endpoint: endpoint.into(),
                source: source.into(),
            })?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                settings.ratio,
            ))))
            .with_resource(Resource::builder().with_service_name(name.to_owned()).build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// The layer that turns spans of level INFO and above into traces.
    pub(crate) fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        // The span around a service lasts as long as the service: as a parent it would make one trace of everything.
        let wanted = filter_fn(|metadata| {
            !service::marks(metadata) && !tail::hides(metadata) && *metadata.level() <= LevelFilter::INFO
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("fieldline"))
            .with_filter(wanted)
            .boxed()
    }

    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "traces left unsent");
        }
    }
}
