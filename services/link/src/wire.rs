//! The two clusters of a link whose brokers are both Kafka, for carrying batches as they are.

use std::path::Path;
use std::sync::Arc;

use common::broker;
use common::kafka::{Cluster, Dial, Sasl, Settings, Tls};

/// How this client shows up in the brokers' logs.
const CLIENT: &str = "link";

/// One direction's clusters.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) source: Arc<Cluster>,
    pub(crate) destination: Arc<Cluster>,
}

/// The cluster that a broker's settings name. None when it is no Kafka, or when its settings say things to librdkafka
/// that this client would not heed.
pub(crate) fn cluster(broker: &broker::Settings, dial: Arc<dyn Dial>) -> Option<Arc<Cluster>> {
    let servers = broker.url.strip_prefix("kafka://")?.trim_end_matches('/');
    if !broker.librdkafka.is_empty() {
        tracing::info!("settings for librdkafka: records are carried one by one, not in batches");
        return None;
    }
    let mut settings = Settings::new(servers, CLIENT);
    let tls = &broker.tls;
    if tls.ca.is_some() || tls.certificate.is_some() {
        settings.tls = Some(Tls {
            ca: tls.ca.clone(),
            identity: tls.certificate.clone().zip(tls.key.clone()),
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
