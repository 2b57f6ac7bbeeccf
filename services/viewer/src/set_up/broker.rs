//! The core's broker: whether it lets this site read and write what a link reads and writes, and has the topics.

use std::io;
use std::path::Path;
use std::time::Duration;

use common::broker::{self, Broker, Outgoing, Position, Tls, TopicSpec};
use common::identity::{BrokerAddress, Enrolment, KafkaRule, Resource, kafka_principal};
use common::schemas::{SiteId, at_core, topic};
use common::telemetry;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::certificate::{explain, handshake, own};
use super::reach::{self, reach};
use super::{Failed, Ladder, StepName};

/// The longest that the broker's answers about rights and topics are waited for, all together.
const LIMIT: Duration = Duration::from_secs(20);
/// Whose rights are tried: Kafka's rules name clients by their groups too.
const LINK: &str = "link";
/// How long a reader waits for a record; that there is none is no failure.
const READ: Duration = Duration::from_secs(1);

pub(super) async fn climb(ladder: &mut Ladder<'_>, enrolment: &Enrolment) -> Result<(), Failed> {
    let address = enrolment.broker();
    ladder.passed(
        StepName::File,
        format!(
            "this is the enrolment of {}; the broker is {address}",
            enrolment.site()
        ),
    );
    match address {
        BrokerAddress::File(path) => file(ladder, path)?,
        BrokerAddress::Kafka { servers, tls } => {
            let reached = reach(ladder, servers).await?;
            let (host, mut stream) = (reached.host.clone(), reached.stream);
            ladder.trying(
                StepName::Certificate,
                format!("{host} and this site show each other who they are"),
            );
            if *tls {
                let valid = own(enrolment)?;
                let reached = reach::Reached {
                    host: host.clone(),
                    port: reached.port,
                    stream,
                };
                let mut stream = handshake(enrolment, &[], reached).await?;
                speaks_kafka(&mut stream, &host).await?;
                ladder.passed(
                    StepName::Certificate,
                    format!("both sides trust each other; {valid}"),
                );
            } else {
                speaks_kafka(&mut stream, &host).await?;
                ladder.not_needed(
                    StepName::Certificate,
                    "this address is without TLS: whoever is on the way can read and change everything",
                );
            }
        }
    }
    ladder.trying(
        StepName::Rights,
        "looking at each topic, reading it, and writing to it without effect",
    );
    let late = |_| {
        Failed::new(
            StepName::Rights,
            format!("the broker has not answered within {} s", LIMIT.as_secs()),
            "the servers that a Kafka tells of must be reached from here too: check its advertised.listeners",
        )
    };
    timeout(LIMIT, Box::pin(rights(ladder, enrolment)))
        .await
        .unwrap_or_else(|error| Err(late(error)))
}

/// An embedded broker has no name, no port and no TLS: it is a file of a core on this machine.
fn file(ladder: &mut Ladder<'_>, path: &Path) -> Result<(), Failed> {
    ladder.not_needed(
        StepName::Name,
        "the broker is a file of this machine: there is no name to look up",
    );
    // Opened, it would be made.
    if !path.is_file() {
        return Err(Failed::new(
            StepName::Port,
            format!("there is no file {}", path.display()),
            "start the core on this machine, or give this site the enrolment of a core elsewhere",
        ));
    }
    ladder.passed(StepName::Port, format!("{} is there", path.display()));
    ladder.not_needed(StepName::Certificate, "a file of this machine needs no TLS");
    Ok(())
}

/// The shortest question that Kafka answers to anybody (ApiVersions, version 0). Over TLS its answer shows that the
/// other side has taken this site's certificate.
async fn speaks_kafka(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str) -> Result<(), Failed> {
    const QUESTION: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    const LARGEST: u32 = 1 << 20;
    let no_kafka = |what: &str| {
        Failed::new(
            StepName::Certificate,
            format!("what answers at {host} is no Kafka{what}"),
            "check the broker's address and port",
        )
    };
    let exchange = async {
        stream.write_all(&QUESTION).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        stream.take(8).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = match timeout(reach::LIMIT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(explain(&error, host)),
        Err(_) => return Err(no_kafka(": it says nothing")),
    };
    match *answer {
        [] => Err(explain(&io::Error::from(io::ErrorKind::UnexpectedEof), host)),
        // An alert of TLS, in answer to plain words.
        [0x15, 0x03, ..] => Err(Failed::new(
            StepName::Certificate,
            format!("{host} speaks TLS at this port"),
            "write the address as kafka://host:port",
        )),
        [a, b, c, d, 0, 0, 0, 7] if (6..LARGEST).contains(&u32::from_be_bytes([a, b, c, d])) => Ok(()),
        _ => Err(no_kafka("")),
    }
}

/// What a link reads and writes at the core.
struct Needs {
    reads: Vec<String>,
    writes: Vec<String>,
}

impl Needs {
    fn of(site: &SiteId) -> Self {
        let own = |name| at_core(site, name);
        let checkpoints = own(topic::CHECKPOINTS);
        Self {
            reads: vec![
                topic::ASSET_BROADCAST.to_owned(),
                topic::ASSET_PREVIEW.to_owned(),
                // Without it rings of sites are not noticed.
                topic::LINK_PATHS.to_owned(),
                own(topic::ASSET_RESPONSE),
                checkpoints.clone(),
            ],
            writes: vec![
                own(topic::ASSET_REQUEST),
                own(topic::ASSET_RECEIPT),
                own(topic::SITE_STATUS),
                checkpoints,
            ],
        }
    }

    fn all(&self) -> Vec<&String> {
        let mut all: Vec<_> = self.reads.iter().chain(&self.writes).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// What a site must be let do, as Kafka's rules name it.
#[derive(Debug, Clone, Copy)]
enum Right {
    Describe,
    Group,
    Read,
    Write,
    Transactions,
}

impl Right {
    /// What gives it, for a topic, a group or a transactional id. What begins with the site's name is given all at once.
    fn rule(self, enrolment: &Enrolment, name: &str) -> KafkaRule {
        let site = enrolment.site();
        let own = at_core(site, "");
        let operations: &[_] = match self {
            Self::Describe => &["Describe", "DescribeConfigs"],
            Self::Read | Self::Group => &["Read"],
            Self::Write | Self::Transactions => &["Write"],
        };
        KafkaRule {
            principal: match enrolment.broker() {
                BrokerAddress::Kafka { tls: false, .. } => "User:ANONYMOUS".to_owned(),
                _ => kafka_principal(site),
            },
            operations,
            resource: match self {
                Self::Group => Resource::Group(name.to_owned()),
                Self::Transactions => Resource::TransactionalIdsFrom(own),
                _ if name.starts_with(&own) => Resource::TopicsFrom(own),
                _ => Resource::Topic(name.to_owned()),
            },
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Describe => "look at",
            Self::Group => "read as group",
            Self::Read => "read",
            Self::Write => "write",
            Self::Transactions => "use the transactional id",
        }
    }
}

/// Whether it was a rule of that Kafka.
fn by_rule(error: &broker::Error) -> bool {
    said(error).contains("authorization failed")
}

fn said(error: &broker::Error) -> String {
    telemetry::chain(error).to_ascii_lowercase()
}

/// What a Kafka does not let a site do, or why that could not be found out.
#[derive(Debug)]
struct Refusal {
    right: Right,
    name: String,
    error: broker::Error,
}

impl Refusal {
    fn by_rule(&self) -> bool {
        by_rule(&self.error)
    }

    /// Why the step fails: all that the rules refuse, or the first trouble of another kind.
    fn failed(enrolment: &Enrolment, refusals: &[Self]) -> Option<Failed> {
        let first = refusals
            .iter()
            .find(|refusal| !refusal.by_rule())
            .or_else(|| refusals.first())?;
        let verb = first.right.verb();
        if !first.by_rule() {
            let what = format!("this site cannot {verb} {}", first.name);
            return Some(refused(enrolment.site(), &what, &first.error));
        }
        tracing::info!(error = %telemetry::chain(&first.error), "a right is missing at the core");
        let names: Vec<_> = refusals.iter().map(|refusal| refusal.name.as_str()).collect();
        let mut rules: Vec<_> = refusals
            .iter()
            .map(|refusal| format!("`{}`", refusal.right.rule(enrolment, &refusal.name)))
            .collect();
        rules.dedup();
        Some(Failed::new(
            StepName::Rights,
            format!(
                "this site may not {verb} {}: the rules of the core's Kafka do not let it",
                names.join(", ")
            ),
            format!(
                "headquarters runs {}, and removes what denies it, if anything does; `fieldline site rules {}` prints \
                 all that a site needs",
                rules.join(" and "),
                enrolment.site(),
            ),
        ))
    }
}

fn refused(site: &SiteId, what: &str, error: &broker::Error) -> Failed {
    let remedy = match error {
        broker::Error::Locked { .. } => {
            "an embedded broker serves one process: run this site in the core's, or give the core a Kafka"
                .to_owned()
        }
        broker::Error::Unreachable { .. } => {
            "the servers that a Kafka tells of must be reached from here too: check its advertised.listeners"
                .to_owned()
        }
        _ => format!("headquarters must let this site do what `fieldline site rules {site}` prints"),
    };
    Failed::new(
        StepName::Rights,
        format!("{what}: {}", telemetry::chain(error)),
        remedy,
    )
}

async fn rights(ladder: &mut Ladder<'_>, enrolment: &Enrolment) -> Result<(), Failed> {
    let site = enrolment.site();
    // The client of Kafka wants its certificates as files.
    let files = tempfile::Builder::new()
        .prefix("fieldline-set-up-")
        .tempdir()
        .map_err(|error| {
            Failed::new(
                StepName::Rights,
                format!("no temporary directory: {error}"),
                "free some disk",
            )
        })?;
    let mut settings = broker::Settings::url(enrolment.broker().url());
    if let BrokerAddress::Kafka { tls: true, .. } = enrolment.broker() {
        let unpacked = enrolment
            .unpack(files.path())
            .map_err(|error| Failed::new(StepName::Rights, telemetry::chain(&error), "free some disk"))?;
        settings.tls = Tls {
            ca: Some(unpacked.ca),
            certificate: Some(unpacked.certificate),
            key: Some(unpacked.key),
            unverified: false,
        };
    }
    let broker = Broker::open(&settings, LINK, &prometheus::Registry::new())
        .await
        .map_err(|error| refused(site, "the broker cannot be opened", &error))?;
    broker
        .ping()
        .await
        .map_err(|error| refused(site, "the broker does not let this site in", &error))?;
    let needs = Needs::of(site);
    let (mut missing, mut refusals) = (Vec::new(), Vec::new());
    for name in needs.all() {
        match broker.describe(name).await {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name.as_str()),
            Err(error) => refusals.push(Refusal {
                right: Right::Describe,
                name: name.clone(),
                error,
            }),
        }
        if refusals.last().is_some_and(|refusal| !refusal.by_rule()) {
            break;
        }
    }
    let all_let = |refusals: Vec<Refusal>| match Refusal::failed(enrolment, &refusals) {
        Some(failed) => Err(failed),
        None => Ok(()),
    };
    all_let(refusals)?;
    let there = |names: &[String]| -> Vec<String> {
        let there = names.iter().filter(|name| !missing.contains(&name.as_str()));
        there.cloned().collect()
    };
    let (reads, writes) = (there(&needs.reads), there(&needs.writes));
    all_let(read(&broker, &reads).await)?;
    all_let(write(&broker, site, &writes).await)?;
    let list = |names: &[String]| {
        if names.is_empty() {
            "nothing yet".to_owned()
        } else {
            names.join(", ")
        }
    };
    // Its own topics headquarters makes; only routes that somebody adds need more.
    let mut of_its_own = TopicSpec::new(at_core(site, "set-up"), 1);
    of_its_own.replication = -1;
    let makes = match broker.rehearse_topic(&of_its_own).await {
        Err(error) if by_rule(&error) => "; what else it takes up, headquarters makes a topic for",
        _ => "",
    };
    ladder.passed(
        StepName::Rights,
        format!(
            "this site may read {} and write {}{makes}",
            list(&reads),
            list(&writes)
        ),
    );
    if missing.is_empty() {
        ladder.passed(StepName::Topics, "all topics of this site are there");
        return Ok(());
    }
    Err(Failed::new(
        StepName::Topics,
        format!("the core has no {}", missing.join(", ")),
        format!(
            "headquarters must run `fieldline site add {site}`, and `fieldline init` for what all sites share"
        ),
    ))
}

/// Reads each topic with a reader of its own, so that a refusal names the right one.
async fn read(broker: &Broker, names: &[String]) -> Vec<Refusal> {
    let each = names.iter().map(|name| async move {
        let read = async {
            broker.watermarks(name, 0).await?;
            let mut reader = broker.reader(&[Position::end(name, 0)]).await?;
            reader.next(1, READ).await.map(drop)
        };
        let error = read.await.err()?;
        // Kafka's own client reads as a group, also where it joins none.
        let as_group = said(&error).contains("group authorization failed");
        Some(Refusal {
            right: if as_group { Right::Group } else { Right::Read },
            name: if as_group {
                format!("{LINK}.reader")
            } else {
                name.clone()
            },
            error,
        })
    });
    let mut refusals: Vec<_> = join_all(each).await.into_iter().flatten().collect();
    // Which topics are refused too is seen once that is let.
    if let Some(at) = refusals
        .iter()
        .position(|refusal| matches!(refusal.right, Right::Group))
    {
        refusals = vec![refusals.swap_remove(at)];
    }
    refusals
}

/// Writes a record to each topic in a transaction that is given up, so that nobody ever reads them. What is refused as
/// a whole is tried one by one: Kafka does not say which topic it was.
async fn write(broker: &Broker, site: &SiteId, names: &[String]) -> Vec<Refusal> {
    if names.is_empty() {
        return Vec::new();
    }
    let id = at_core(site, "set-up");
    let rehearse = async |names: &[String]| {
        let refusal = |right, error| Refusal {
            right,
            name: if matches!(right, Right::Write) {
                names.join(", ")
            } else {
                id.clone()
            },
            error,
        };
        let record = |name: &String| Outgoing::new(name, "set-up", Vec::new());
        let transactions = broker.transactions(&id).await;
        let transactions = transactions.map_err(|error| refusal(Right::Transactions, error))?;
        let rehearsed = transactions.rehearse(names.iter().map(record).collect()).await;
        rehearsed.map_err(|error| refusal(Right::Write, error))
    };
    let Err(whole) = rehearse(names).await else {
        return Vec::new();
    };
    if matches!(whole.right, Right::Transactions) || names.len() == 1 {
        return vec![whole];
    }
    let mut refusals = Vec::new();
    for name in names {
        refusals.extend(rehearse(std::slice::from_ref(name)).await.err());
    }
    if refusals.is_empty() {
        refusals.push(whole);
    }
    refusals
}
