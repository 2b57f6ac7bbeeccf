//! The core's broker: whether it lets this site read and write what a link reads and writes, and has the topics.

use std::io;
use std::path::Path;
use std::time::Duration;

use common::broker::{self, Broker, Outgoing, Position, Tls};
use common::identity::{BrokerAddress, Enrolment};
use common::schemas::{SiteId, at_core, topic};
use common::telemetry;
use futures_util::future::try_join_all;
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

async fn rights(ladder: &mut Ladder<'_>, enrolment: &Enrolment) -> Result<(), Failed> {
    let site = enrolment.site();
    let refused = |what: &str, error: &broker::Error| {
        let remedy = match error {
            broker::Error::Locked { .. } => {
                "an embedded broker serves one process: run this site in the core's, or give the core a Kafka".to_owned()
            }
            broker::Error::Unreachable { .. } => {
                "the servers that a Kafka tells of must be reached from here too: check its advertised.listeners".to_owned()
            }
            _ => format!(
                "headquarters must let CN={site} read, write and describe topics that begin with {site}., read and describe \
                 ASSET_BROADCAST and ASSET_PREVIEW (with their settings), use transactional ids that begin with {site}., \
                 and read as group {LINK}.reader"
            ),
        };
        Failed::new(
            StepName::Rights,
            format!("{what}: {}", telemetry::chain(error)),
            remedy,
        )
    };
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
        .map_err(|error| refused("the broker cannot be opened", &error))?;
    broker
        .ping()
        .await
        .map_err(|error| refused("the broker does not let this site in", &error))?;
    let needs = Needs::of(site);
    let mut missing = Vec::new();
    for name in needs.all() {
        match broker.describe(name).await {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name.as_str()),
            Err(error) => return Err(refused(&format!("this site may not look at {name}"), &error)),
        }
    }
    let there = |names: &[String]| -> Vec<String> {
        let there = names.iter().filter(|name| !missing.contains(&name.as_str()));
        there.cloned().collect()
    };
    let (reads, writes) = (there(&needs.reads), there(&needs.writes));
    read(&broker, &reads)
        .await
        .map_err(|error| refused("this site may not read", &error))?;
    write(&broker, site, &writes)
        .await
        .map_err(|error| refused("this site may not write", &error))?;
    let list = |names: &[String]| {
        if names.is_empty() {
            "nothing yet".to_owned()
        } else {
            names.join(", ")
        }
    };
    ladder.passed(
        StepName::Rights,
        format!("this site may read {} and write {}", list(&reads), list(&writes)),
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
async fn read(broker: &Broker, names: &[String]) -> broker::Result<()> {
    let each = names.iter().map(|name| async move {
        broker.watermarks(name, 0).await?;
        let mut reader = broker.reader(&[Position::end(name, 0)]).await?;
        reader.next(1, READ).await.map(drop)
    });
    try_join_all(each).await.map(drop)
}

/// Writes a record to each topic in a transaction that is given up, so that nobody ever reads them.
async fn write(broker: &Broker, site: &SiteId, names: &[String]) -> broker::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let records = names
        .iter()
        .map(|name| Outgoing::new(name, "set-up", Vec::new()))
        .collect();
    let transactions = broker.transactions(&at_core(site, "set-up")).await?;
    transactions.rehearse(records).await
}
