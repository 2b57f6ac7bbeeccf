//! The two ends of a link that carries batches: Kafkas, which are spoken to without librdkafka, and one may be the broker
//! in this process.

use std::path::Path;
use std::sync::Arc;

use common::broker;
use common::kafka::{Cluster, Dial, Sasl, Settings, Tls};

/// How this client shows up in the brokers' logs.
const CLIENT: &str = "link";

/// One direction's ends.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) source: End,
    pub(crate) destination: End,
}

/// An end of a wire.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// A cluster that is reached over connections.
    Kafka(Arc<Cluster>),
    /// The broker in this process.
    Embedded,
}

impl Wire {
    /// Whether there is anything between its ends.
    pub(crate) fn leads_out(&self) -> bool {
        !matches!((&self.source, &self.destination), (End::Embedded, End::Embedded))
    }
}

/// The end that a broker's settings name. None when they say things to librdkafka that this client would not heed.
pub(crate) fn end(broker: &broker::Settings, dial: Arc<dyn Dial>) -> Option<End> {
    if broker.url.starts_with("sqlite:") {
        return Some(End::Embedded);
    }
    cluster(broker, dial).map(End::Kafka)
}

fn cluster(broker: &broker::Settings, dial: Arc<dyn Dial>) -> Option<Arc<Cluster>> {
    let servers = broker.url.strip_prefix("kafka://")?.trim_end_matches('/');
    if !broker.librdkafka.is_empty() {
        tracing::info!("settings for librdkafka: records are carried one by one, not in batches");
        return None;
    }
    let mut settings = Settings::new(servers, CLIENT);
    let tls = &broker.tls;
    if tls.on() {
        settings.tls = Some(Tls {
            ca: tls.ca.clone(),
            identity: tls.certificate.clone().zip(tls.key.clone()),
            unverified: tls.unverified,
        });
    }
    if let (Some(mechanism), Some(username)) = (&broker.sasl.mechanism, &broker.sasl.username) {
        settings.sasl = Some(Sasl {
            mechanism: mechanism.clone(),
            username: username.clone(),
            password: password(&broker.sasl)?,
        });
    }
    Some(Arc::new(Cluster::new(settings, dial)))
}

fn password(sasl: &broker::Sasl) -> Option<String> {
    if let Some(password) = &sasl.password {
        return Some(password.expose().to_owned());
    }
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let text = read(sasl.password_file.as_deref()?)?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}
