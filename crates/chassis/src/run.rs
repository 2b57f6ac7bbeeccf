//! The life of a service: build, ready, run, drain.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use tracing::Instrument;

use crate::host::caught;
use crate::{Host, HostState, Loaded, Settings, Stop, admin};

/// A stage of the pipeline that a host can run, alone or beside others.
pub trait Service: Sized + Send + 'static {
    /// The name of crate, binary, image and log field.
    const NAME: &'static str;
    /// What an operator can set.
    type Settings: Settings;

    /// Connects to the outside; whatever can be refused is refused here. Dropped when the host stops meanwhile.
    fn build(settings: Self::Settings, host: &Host) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Works until `stop`, then finishes what it holds.
    fn run(self, stop: Stop) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Put on an error (`error.context(Fenced)`) that means another instance has taken over: it is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fenced by another instance")]
pub struct Fenced;

/// Put on an error (`error.context(Again)`, or returned as it is) that means: what the service was built from has
/// changed, so it is built anew, at once and in a host of its own. It is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("to be built anew")]
pub struct Again;

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Again,
    Failed(String),
    Fenced(String),
}

/// Runs a service in a host that was made for it, to its end; the error is the first failure of it or of its tasks.
pub async fn run_in<S: Service>(host: Host, settings: S::Settings) -> anyhow::Result<()> {
    let loaded = Loaded {
        host: host.settings().clone(),
        settings,
        origins: Default::default(),
    };
    match run::<S>(host, loaded).await {
        End::Clean => Ok(()),
        End::Again => Err(Again.into()),
        End::Failed(text) => Err(anyhow::anyhow!(text)),
        End::Fenced(text) => Err(anyhow::anyhow!(text).context(Fenced)),
    }
}

pub(crate) async fn run<S: Service>(host: Host, loaded: Loaded<S::Settings>) -> End {
    let span = host.span();
    async {
        match live::<S>(&host, loaded).await {
            Ok(()) => {}
            Err(error) if error.downcast_ref::<Again>().is_some() && host.failure().is_none() => {
                // It says that it drains, and nothing after that: the next host goes on with the report.
                let stopped = host.stop().is_cancelled();
                host.advance(HostState::Draining);
                if !stopped {
                    host.stop().cancel();
                    host.abandon().await;
                    tracing::info!("to be built anew");
                    return End::Again;
                }
            }
            Err(error) => host.fail(&error),
        }
        let failure = host.failure();
        host.advance(if failure.is_some() {
            HostState::Failed
        } else {
            HostState::Stopped
        });
        host.stop().cancel();
        host.finish((*host.settings().grace).min(Duration::from_secs(5)))
            .await;
        match host.failure() {
            Some(text) if host.fenced() => End::Fenced(text),
            Some(text) => End::Failed(text),
            None => {
                tracing::info!("stopped");
                End::Clean
            }
        }
    }
    .instrument(span)
    .await
}

async fn live<S: Service>(host: &Host, loaded: Loaded<S::Settings>) -> anyhow::Result<()> {
    let stop = host.stop();
    tracing::info!(instance = host.instance(), version = host.version(), "starting");
    if let Some(address) = host.settings().admin {
        admin::start(host, address, shown(&loaded)).await?;
    }
    let service = tokio::select! {
        built = caught(S::build(loaded.settings, host)) => built,
        () = stop.cancelled() => return Ok(()),
    };
    let service = match service {
        Ok(service) => service,
        // What is built may see the stop first, and say that it cannot be finished.
        Err(error) if stop.is_cancelled() && error.downcast_ref::<Again>().is_none() => {
            tracing::info!(error = %telemetry::chain(&*error), "stopped while starting");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    host.ready();
    tracing::info!("started");
    let work = caught(service.run(stop.clone()));
    tokio::pin!(work);
    tokio::select! {
        // Work that ends at the very moment it is told to has drained all the same.
        biased;
        () = stop.cancelled() => host.advance(HostState::Draining),
        ended = &mut work => return ended,
    }
    let grace = host.settings().grace;
    tracing::info!(%grace, "draining");
    match tokio::time::timeout(*grace, work).await {
        Ok(ended) => ended,
        Err(_) => Err(anyhow::anyhow!("did not stop within {grace}")),
    }
}

/// Settings as they may be shown: types redact secrets, and so does this where a key of a free table sounds like one.
pub(crate) fn shown<T: Settings>(loaded: &Loaded<T>) -> Value {
    let mut host = json!(loaded.host);
    let mut settings = serde_json::to_value(&loaded.settings).unwrap_or_default();
    redact(&mut host);
    redact(&mut settings);
    json!({ "host": host, "settings": settings, "origins": loaded.origins })
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if value.is_string()
                    && ["password", "secret", "token"]
                        .iter()
                        .any(|word| key.ends_with(word))
                {
                    *value = "[redacted]".into();
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        _ => {}
    }
}
