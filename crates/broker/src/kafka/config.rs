//! The properties of librdkafka, for each kind of client; the user's own go over ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ThreadedProducer};

use super::context::{Context, Quiet};
use super::lifeline;
use crate::engine::Membership;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// A transaction that its holder does not finish in this time is aborted by the broker. It holds up every reader of
/// committed records meanwhile, so it is short.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a group waits for a silent member when nothing else is asked.
const SESSION_TIMEOUT: Duration = Duration::from_secs(8);

/// Properties that every client of one engine has, and those of the user.
#[derive(Debug)]
pub(super) struct Template {
    url: String,
    client: String,
    base: Vec<(&'static str, String)>,
    user: BTreeMap<String, String>,
}

impl Template {
    pub(super) fn new(settings: &Settings, servers: &str, client: &str) -> Result<Self> {
        let mut base = vec![
            ("bootstrap.servers", servers.to_owned()),
            ("client.id", client.to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            ("reconnect.backoff.ms", "100".to_owned()),
            ("reconnect.backoff.max.ms", "5000".to_owned()),
        ];
        let (tls, sasl) = (&settings.tls, &settings.sasl);
        let encrypted = tls.on();
        if tls.unverified {
            tracing::warn!(
                url = settings.url,
                "whoever answers is taken for the broker: tls.unverified is set"
            );
            base.push(("enable.ssl.certificate.verification", "false".to_owned()));
        }
        base.push((
            "security.protocol",
            match (encrypted, sasl.mechanism.is_some()) {
                (false, false) => "plaintext",
                (true, false) => "ssl",
                (false, true) => "sasl_plaintext",
                (true, true) => "sasl_ssl",
            }
            .to_owned(),
        ));
        let files = [
            ("ssl.ca.location", tls.ca.as_deref()),
            ("ssl.certificate.location", tls.certificate.as_deref()),
            ("ssl.key.location", tls.key.as_deref()),
        ];
        for (property, file) in files {
            if let Some(file) = file {
                base.push((property, readable(property, file)?));
            }
        }
        if let Some(mechanism) = &sasl.mechanism {
            base.push(("sasl.mechanism", mechanism.clone()));
            base.push(("sasl.username", sasl.username.clone().unwrap_or_default()));
            let password = match (&sasl.password, &sasl.password_file) {
                (Some(secret), _) => secret.expose().to_owned(),
                (None, Some(file)) => std::fs::read_to_string(file)
                    .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                    .map_err(|error| {
                        Error::Settings(format!("sasl.password_file {}: {error}", file.display()))
                    })?,
                (None, None) => String::new(),
            };
            base.push(("sasl.password", password));
        }
        Ok(Self {
            url: settings.url.clone(),
            client: client.to_owned(),
            base,
            user: settings.librdkafka.clone(),
        })
    }

    fn config(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        for (property, value) in &self.base {
            config.set(*property, value);
        }
        for (property, value) in own {
            config.set(*property, *value);
        }
        for (property, value) in &self.user {
            config.set(property, value);
        }
        config
    }

    fn refused(&self, error: KafkaError) -> Error {
        match error {
            KafkaError::ClientConfig(_, why, property, _) => {
                Error::Settings(format!("librdkafka property {property}: {why}"))
            }
            KafkaError::ClientCreation(why) => Error::Settings(format!("librdkafka: {why}")),
            other => Error::Open {
                url: self.url.clone(),
                source: other.into(),
            },
        }
    }

    /// The properties of everything that sends: idempotent, acknowledged by all replicas, partitions as Java's
    /// clients choose them, and a queue that is bounded in bytes.
    const SENDING: [(&'static str, &'static str); 9] = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("compression.type", "lz4"),
        ("linger.ms", "2"),
        ("queue.buffering.max.kbytes", "16384"),
        ("queue.buffering.max.messages", "50000"),
        // The topic's own limit is the one that counts; this is librdkafka's, and must not be below it.
        ("message.max.bytes", "67108864"),
        ("topic.metadata.propagation.max.ms", "5000"),
    ];

    /// The shared producer. It also tells topic ids, see [`Context::topic_id`].
    pub(super) fn producer(&self, context: Context) -> Result<ThreadedProducer<Context>> {
        let mut own = Self::SENDING.to_vec();
        own.extend([
            ("delivery.timeout.ms", "30000"),
            ("debug", "topic"),
            ("statistics.interval.ms", lifeline::INTERVAL),
        ]);
        let mut config = self.config(&own);
        config.set_log_level(RDKafkaLogLevel::Debug);
        config
            .create_with_context(context)
            .map_err(|error| self.refused(error))
    }

    /// A producer for one transactional id.
    pub(super) fn transactions(&self, id: &str, context: Context) -> Result<BaseProducer<Context>> {
        let timeout = TRANSACTION_TIMEOUT.as_millis().to_string();
        let mut own = Self::SENDING.to_vec();
        own.extend([("transactional.id", id), ("transaction.timeout.ms", &timeout)]);
        self.config(&own)
            .create_with_context(context)
            .map_err(|error| self.refused(error))
    }

    /// The client that creates, deletes and describes topics.
    pub(super) fn admin(&self, context: Quiet) -> Result<AdminClient<Quiet>> {
        let mut config = self.config(&[("statistics.interval.ms", lifeline::INTERVAL)]);
        // Nobody reads this client's log: what it would say, the producer says as well.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
            .create_with_context(context)
            .map_err(|error| self.refused(error))
    }

    /// Everything that reads: committed records, a small read-ahead, and never a silent jump to another offset.
    const READING: [(&'static str, &'static str); 10] = [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("allow.auto.create.topics", "false"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.message.max.bytes", "1048576"),
        ("fetch.max.bytes", "4194304"),
        ("message.max.bytes", "1048576"),
        // A full queue is looked at again soon, not after the second that is the default.
        ("fetch.queue.backoff.ms", "20"),
    ];

    /// A consumer of given partitions. librdkafka wants a group id of it, and never joins that group.
    pub(super) fn reader<C: ConsumerContext>(&self, context: C) -> Result<BaseConsumer<C>> {
        let group = format!("{}.reader", self.client);
        let mut own = Self::READING.to_vec();
        own.extend([("group.id", group.as_str()), ("fetch.error.backoff.ms", "100")]);
        self.config(&own)
            .create_with_context(context)
            .map_err(|error| self.refused(error))
    }

    /// A consumer that only asks what a group has committed.
    pub(super) fn observer(&self, group: &str) -> Result<BaseConsumer<Quiet>> {
        let mut own = Self::READING.to_vec();
        own.push(("group.id", group));
        self.config(&own)
            .create_with_context(Quiet::default())
            .map_err(|error| self.refused(error))
    }

    /// A member of a group. Cooperative, so that a member that comes or goes stops only what moves.
    ///
    /// A member that only wants to hold partitions (a lease) must keep them when others join, and a cooperative group
    /// evens numbers out. So it is a group of ranges, where the first member in order of ids has partition 0; ids
    /// begin with the client id, and that with the time of joining: the oldest member has it until it goes.
    pub(super) fn member<C: ConsumerContext>(
        &self,
        membership: &Membership,
        context: C,
    ) -> Result<BaseConsumer<C>> {
        let session = membership.session_timeout.unwrap_or(SESSION_TIMEOUT);
        let (heartbeat, session) = (
            (session / 4).as_millis().to_string(),
            session.as_millis().to_string(),
        );
        let joined = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let aged = format!("{joined:014}-{}", self.client);
        let (client, strategy) = match membership.fetch {
            true => (self.client.as_str(), "cooperative-sticky"),
            false => (aged.as_str(), "range"),
        };
        let mut own = Self::READING.to_vec();
        own.extend([
            ("group.id", membership.group.as_str()),
            ("session.timeout.ms", &session),
            ("heartbeat.interval.ms", &heartbeat),
            ("max.poll.interval.ms", "120000"),
            ("client.id", client),
            ("partition.assignment.strategy", strategy),
            // How soon a topic that appears is found.
            ("topic.metadata.refresh.interval.ms", "4000"),
            ("fetch.error.backoff.ms", "100"),
            // The only way to learn the ends of partitions without asking.
            ("statistics.interval.ms", lifeline::INTERVAL),
        ]);
        if let Some(instance) = &membership.instance {
            own.push(("group.instance.id", instance));
        }
        self.config(&own)
            .create_with_context(context)
            .map_err(|error| self.refused(error))
    }
}

/// librdkafka's own words about a file that is missing are a riddle of OpenSSL.
fn readable(property: &str, file: &Path) -> Result<String> {
    std::fs::File::open(file)
        .map_err(|error| Error::Settings(format!("{property} {}: {error}", file.display())))?;
    Ok(file.display().to_string())
}

#[cfg(test)]
mod tests {
    use units::Secret;

    use super::*;
    use crate::settings::{Sasl, Tls};

    fn template(settings: &Settings) -> Result<Template> {
        Template::new(settings, "127.0.0.1:1", "test")
    }

    #[test]
    fn users_properties_win_and_wrong_ones_are_named() {
        let mut settings = Settings::url("kafka://127.0.0.1:1");
        settings.librdkafka.insert("linger.ms".into(), "9".into());
        let config = template(&settings).unwrap().config(&Template::SENDING);
        assert_eq!(config.get("linger.ms"), Some("9"));
        settings.librdkafka.insert("no.such.thing".into(), "1".into());
        let refused = template(&settings)
            .unwrap()
            .producer(Context::new("127.0.0.1:1"))
            .err();
        assert!(refused.is_some_and(|error| error.to_string().contains("no.such.thing")));
    }

    #[test]
    fn security_protocol_follows_from_what_is_set() {
        let mut settings = Settings::url("kafka://127.0.0.1:1");
        assert_eq!(
            template(&settings).unwrap().config(&[]).get("security.protocol"),
            Some("plaintext")
        );
        settings.sasl = Sasl {
            mechanism: Some("PLAIN".into()),
            username: Some("me".into()),
            password: Some(Secret::new("secret")),
            ..Sasl::default()
        };
        assert_eq!(
            template(&settings).unwrap().config(&[]).get("security.protocol"),
            Some("sasl_plaintext")
        );
        settings.tls = Tls {
            ca: Some("/no/such/ca.crt".into()),
            ..Tls::default()
        };
        let error = template(&settings).unwrap_err();
        assert!(error.to_string().contains("/no/such/ca.crt"), "{error}");
    }
}
