//! A cluster: which server leads what, and the connections to them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsRequest, FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::dial::{Dial, Traffic};
use crate::error::{Error, Result, check, passing};
use crate::settings::Settings;

/// How long a new topic, or a cluster that has just come up, is waited for.
const SETTLE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);
/// How long a login that was refused is not tried again.
const REFUSED: Duration = Duration::from_secs(30);
/// `FindCoordinator`: the key is a group's name.
pub(crate) const GROUP: i8 = 0;
/// `FindCoordinator`: the key is a transactional id.
pub(crate) const TRANSACTION: i8 = 1;
/// `DescribeConfigs`: the resource is a topic.
const TOPIC: i8 = 2;
/// Kafka's own limit on a batch, when a topic does not say.
const BATCH_LIMIT: usize = 1024 * 1024;

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Which incarnation this is.
    pub(crate) id: [u8; 16],
    /// The server that leads each partition.
    pub(crate) leaders: Vec<i32>,
}

impl Topic {
    /// Which incarnation this is, in the letters of librdkafka (Kafka's own tools write `-` and `_` for `+` and `/`): who
    /// compares the two must not take one topic for another.
    pub fn id(&self) -> String {
        STANDARD_NO_PAD.encode(self.id)
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> usize {
        self.leaders.len()
    }

    /// The first of `known` of which another look did not find the same incarnation, with as many partitions.
    pub fn changed<'a>(known: &'a [Self], found: &[Option<Self>]) -> Option<&'a Self> {
        let same = |one: &Self, other: &Self| one.id == other.id && one.leaders.len() == other.leaders.len();
        let mut pairs = known.iter().zip(found);
        let changed = pairs.find(|(known, found)| !found.as_ref().is_some_and(|found| same(known, found)));
        changed.map(|(known, _)| known)
    }

    /// The server that leads a partition.
    pub fn leader(&self, partition: i32) -> Option<i32> {
        let index = usize::try_from(partition).ok()?;
        self.leaders.get(index).copied()
    }
}

/// A cluster, by way of any of its servers.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    dial: Arc<dyn Dial>,
    traffic: Arc<Traffic>,
    known: Mutex<Known>,
    /// The password is not tried again and again: servers lock users out for that.
    refusal: std::sync::Mutex<Option<Refusal>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Any server, for questions that all can answer.
    any: Option<Arc<Connection>>,
    addresses: HashMap<i32, (String, u16)>,
    connections: HashMap<i32, Arc<Connection>>,
}

/// A login that was refused: until when, and what was said.
type Refusal = (Instant, String, String);

impl Cluster {
    /// A cluster that is reached with the first question.
    pub fn new(settings: Settings, dial: Arc<dyn Dial>) -> Self {
        Self {
            settings,
            dial,
            traffic: Arc::default(),
            known: Mutex::default(),
            refusal: std::sync::Mutex::default(),
        }
    }

    /// Lets go of all shared connections; those that nobody else holds end. The next question opens others.
    pub async fn hang_up(&self) {
        let mut known = self.known.lock().await;
        known.any = None;
        known.connections.clear();
    }

    /// What has crossed this cluster's connections.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Topics by name, in the order asked for; none for one that does not exist.
    pub async fn topics(&self, names: &[&str]) -> Result<Vec<Option<Topic>>> {
        let since = Instant::now();
        loop {
            match self.look(names).await {
                Err(Error::Answer { code, .. }) if settling(code) && since.elapsed() < SETTLE => {
                    tokio::time::sleep(STEP).await;
                }
                other => return other,
            }
        }
    }

    /// One topic, which must exist.
    pub(crate) async fn topic(&self, name: &str) -> Result<Topic> {
        let found = self.topics(&[name]).await?.into_iter().flatten().next();
        found.ok_or_else(|| Error::UnknownTopic {
            topic: name.to_owned(),
        })
    }

    async fn look(&self, names: &[&str]) -> Result<Vec<Option<Topic>>> {
        self.look_over(&*self.any().await?, names).await
    }

    /// The same over a connection that is there for something else.
    pub(crate) async fn look_over(
        &self,
        connection: &Connection,
        names: &[&str],
    ) -> Result<Vec<Option<Topic>>> {
        let name = |name: &&str| TopicName(StrBytes::from_string((*name).to_owned()));
        let wanted = names
            .iter()
            .map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
        let answer = metadata(connection, Some(wanted.collect())).await?;
        self.learn_addresses(&answer.brokers).await;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let mut topics = answer.topics.iter();
            let topic = topics
                .find(|topic| topic.name.as_ref().is_some_and(|found| *found.0 == **name))
                .ok_or(Error::Malformed { what: "metadata" })?;
            if ResponseError::try_from_code(topic.error_code) == Some(ResponseError::UnknownTopicOrPartition)
            {
                found.push(None);
                continue;
            }
            check("look at topics", topic.error_code)?;
            let mut leaders = vec![-1; topic.partitions.len()];
            for partition in &topic.partitions {
                check("look at topics", partition.error_code)?;
                let index = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
                *leaders
                    .get_mut(index)
                    .ok_or(Error::Malformed { what: "metadata" })? = partition.leader_id.0;
            }
            found.push(Some(Topic {
                name: (*name).to_owned(),
                id: *topic.topic_id.as_bytes(),
                leaders,
            }));
        }
        Ok(found)
    }

    pub(crate) async fn learn_addresses(&self, servers: &[MetadataResponseBroker]) {
        let mut known = self.known.lock().await;
        for server in servers {
            let port = u16::try_from(server.port).unwrap_or_default();
            known
                .addresses
                .insert(server.node_id.0, (server.host.to_string(), port));
        }
    }

    /// The largest batch that each of these topics takes.
    pub async fn batch_limits(&self, names: &[&str]) -> Result<Vec<usize>> {
        let any = self.any().await?;
        let key = || vec![StrBytes::from_static_str("max.message.bytes")];
        let resources = names.iter().map(|name| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_string((*name).to_owned()))
                .with_configuration_keys(Some(key()))
        });
        let request = DescribeConfigsRequest::default().with_resources(resources.collect());
        let version = any.speaks(ApiKey::DescribeConfigs, "DescribeConfigs", 4, 4)?;
        let answer = any.call(&request, version, Duration::ZERO).await?;
        let limit = |name: &&str| {
            let mut results = answer.results.iter();
            let result = results.find(|result| *result.resource_name == **name)?;
            let value = result.configs.first()?.value.as_ref()?;
            value.parse().ok()
        };
        // A client that may write to a topic need not be allowed to look at its settings.
        Ok(names
            .iter()
            .map(|name| limit(name).unwrap_or(BATCH_LIMIT))
            .collect())
    }

    /// Asks whether any server answers, in as few bytes as that takes.
    pub async fn ping(&self) -> Result<()> {
        self.metadata(Some(Vec::new())).await.map(drop)
    }

    /// What any server says of the cluster and of these topics; without a list, of all. None is made by asking.
    pub(crate) async fn metadata(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<MetadataResponse> {
        metadata(&*self.any().await?, topics).await
    }

    /// The server that keeps a transactional id, or a group.
    pub(crate) async fn coordinator(&self, kind: i8, id: &str) -> Result<Arc<Connection>> {
        let since = Instant::now();
        loop {
            let any = self.any().await?;
            let request = FindCoordinatorRequest::default()
                .with_key(StrBytes::from_string(id.to_owned()))
                .with_key_type(kind);
            let version = any.speaks(ApiKey::FindCoordinator, "FindCoordinator", 3, 3)?;
            let answer = any.call(&request, version, Duration::ZERO).await?;
            if passing(answer.error_code) && since.elapsed() < SETTLE {
                tokio::time::sleep(STEP).await;
                continue;
            }
            check("find the coordinator", answer.error_code)?;
            let port = u16::try_from(answer.port).unwrap_or_default();
            let mut known = self.known.lock().await;
            known
                .addresses
                .insert(answer.node_id.0, (answer.host.to_string(), port));
            drop(known);
            return self.connection(answer.node_id.0).await;
        }
    }

    /// The shared connection to a server.
    pub(crate) async fn connection(&self, node: i32) -> Result<Arc<Connection>> {
        let mut known = self.known.lock().await;
        if let Some(connection) = known
            .connections
            .get(&node)
            .filter(|connection| connection.alive())
        {
            return Ok(connection.clone());
        }
        let address = known.addresses.get(&node).cloned();
        // The one that was asked first may be this server.
        let same = known.any.clone().filter(|any| {
            let named = |(host, port): &(String, u16)| any.address() == format!("{host}:{port}");
            any.alive() && address.as_ref().is_some_and(named)
        });
        let connection = match same {
            Some(any) => any,
            None => Arc::new(self.open(address).await?),
        };
        known.connections.insert(node, connection.clone());
        Ok(connection)
    }

    /// A connection of one's own, for requests that the server holds back.
    pub(crate) async fn private(&self, node: i32) -> Result<Connection> {
        let address = self.known.lock().await.addresses.get(&node).cloned();
        self.open(address).await
    }

    async fn open(&self, address: Option<(String, u16)>) -> Result<Connection> {
        let (host, port) = address.ok_or(Error::Malformed { what: "metadata" })?;
        let refusal = || self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, address, reason)) = refusal().clone()
            && Instant::now() < until
        {
            return Err(Error::Login { address, reason });
        }
        let opened = Connection::open(&self.settings, &*self.dial, self.traffic.clone(), &host, port).await;
        if let Err(Error::Login { address, reason }) = &opened {
            *refusal() = Some((Instant::now() + REFUSED, address.clone(), reason.clone()));
        }
        opened
    }

    /// Any server that answers: one that is known already, or the first of the settings' that can be reached.
    pub(crate) async fn any(&self) -> Result<Arc<Connection>> {
        let mut known = self.known.lock().await;
        let known_ones = known.any.iter().chain(known.connections.values());
        if let Some(any) = known_ones.into_iter().find(|any| any.alive()) {
            return Ok(any.clone());
        }
        let mut failed = Error::Settings("no server is named".into());
        for server in &self.settings.servers {
            let wrong = || Error::Settings(format!("server {server} needs host:port"));
            let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
            let address = Some((host.to_owned(), port.parse().map_err(|_| wrong())?));
            match self.open(address).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    known.any = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

async fn metadata(
    connection: &Connection,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Result<MetadataResponse> {
    let request = MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(false);
    let version = connection.speaks(ApiKey::Metadata, "Metadata", 10, 12)?;
    connection.call(&request, version, Duration::ZERO).await
}

pub(crate) fn settling(code: ResponseError) -> bool {
    use ResponseError as E;
    matches!(code, E::LeaderNotAvailable | E::ListenerNotFound)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::ApiVersionsResponse;
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::protocol::Encodable;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::dial::Tcp;

    /// A server that says which versions it speaks, and not another word.
    async fn greet_and_fall_silent(mut stream: TcpStream) -> std::io::Result<()> {
        let length = stream.read_i32().await?;
        let mut request = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut request).await?;
        let metadata = ApiVersion::default()
            .with_api_key(ApiKey::Metadata as i16)
            .with_max_version(12);
        let mut body = BytesMut::new();
        // The correlation id is the header of this answer in all versions.
        body.extend_from_slice(&request[4..8]);
        let answer = ApiVersionsResponse::default().with_api_keys(vec![metadata]);
        answer.encode(&mut body, 3).unwrap();
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(body.len()).unwrap());
        frame.extend_from_slice(&body);
        stream.write_all(&frame).await?;
        std::future::pending().await
    }

    #[tokio::test]
    async fn connection_that_fell_silent_is_not_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let servers = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(greet_and_fall_silent(stream));
            }
        });
        let mut settings = Settings::new(&servers, "test");
        settings.patience = Duration::from_millis(200);
        let cluster = Cluster::new(settings, Arc::new(Tcp));
        let first = cluster.any().await.unwrap();
        assert!(Arc::ptr_eq(&first, &cluster.any().await.unwrap()));
        assert!(matches!(cluster.ping().await, Err(Error::Silent { .. })));
        assert!(!first.alive());
        assert!(!Arc::ptr_eq(&first, &cluster.any().await.unwrap()));
    }

    #[test]
    fn ids_are_in_the_letters_of_librdkafka() {
        let topic = Topic {
            name: "t".into(),
            id: [0xfb; 16],
            leaders: vec![1],
        };
        assert_eq!(topic.id(), "+/v7+/v7+/v7+/v7+/v7+w");
    }
}
