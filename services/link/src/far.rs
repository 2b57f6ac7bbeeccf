//! The core's broker as a command reads it that must not read past the budget: over connections of the link's own kind,
//! in the class of backlogs, which is bulk.
//!
//! Where a link of this site is at work and has a door, its budget is the one, by way of the door. Where the edge's broker
//! is embedded and this process has it, no link is at work, and its budget is taken up with what was spent. Else the
//! cap and the windows of the settings hold, and what is spent is forgotten.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::broker;
use common::budget::{Budget, Class, door};
use common::kafka::{Cluster, Dial, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::line::{self, Line};
use crate::settings::Settings;
use crate::wire::{End, end};

/// In which class it reads.
const CLASS: Class = Class::Backlog;
/// How long a door may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(15);
/// A door's answer is not longer.
const ANSWER: u64 = 4096;

/// The core, under the budget.
#[derive(Debug, Clone)]
pub struct Far {
    pub(crate) cluster: Arc<Cluster>,
    budget: Option<Budget>,
    /// Whose budget it is, in an operator's words.
    says: &'static str,
}

impl Far {
    /// None where the core's broker is in this process, or settings for librdkafka are to be heeded. `asked` is whether
    /// somebody has agreed to what it may cost on a metered link; a link at work has to be asked itself.
    ///
    /// # Errors
    /// When the budget cannot work.
    pub async fn open(settings: &Settings, asked: bool) -> anyhow::Result<Option<Self>> {
        let mut settings = settings.clone();
        settings.budget.metered &= !asked;
        let settings = &settings;
        let door = match settings.door.listen {
            Some(door) => TcpStream::connect(door).await.is_ok().then_some(door),
            None => None,
        };
        let (dial, budget, says): (Arc<dyn Dial>, _, _) = if let Some(door) = door {
            (
                Arc::new(Through { door }),
                None,
                "under the budget of the link at work, by its door",
            )
        } else {
            let (budget, says) = if settings.broker.url.starts_with("sqlite:") {
                (line::open(settings)?, "under the link's budget")
            } else {
                let says =
                    "under a cap and windows of its own, for there is no [link.door] to a link at work";
                (Budget::detached(settings.budget.clone())?, says)
            };
            let line = Line {
                budget: budget.clone(),
                class: CLASS,
            };
            (Arc::new(line), Some(budget), says)
        };
        Ok(match end(&settings.core, dial) {
            Some(End::Kafka(cluster)) => Some(Self {
                cluster,
                budget,
                says,
            }),
            _ => None,
        })
    }

    /// Whose budget it is, in an operator's words.
    pub fn says(&self) -> &'static str {
        self.says
    }

    /// Why nothing may cross now, if so. A link at work says it itself.
    pub fn held(&self) -> Option<String> {
        let admits = self.budget.as_ref()?.admits(CLASS);
        admits.err().map(|hold| hold.to_string())
    }

    /// What has crossed, both ways.
    pub fn crossed(&self) -> u64 {
        self.cluster.traffic().crossed()
    }
}

/// The servers of the core that a door has to let through.
pub(crate) fn servers(core: &broker::Settings) -> Vec<String> {
    let servers = core.url.strip_prefix("kafka://").unwrap_or_default();
    let servers = servers.trim_end_matches('/').split(',');
    servers
        .filter(|server| !server.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Connects through the door of a link at work.
#[derive(Debug)]
struct Through {
    door: SocketAddr,
}

#[async_trait]
impl Dial for Through {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let asks = async {
            let mut stream = TcpStream::connect(self.door).await?;
            stream.set_nodelay(true)?;
            let header = door::CLASS_HEADER;
            let request = format!("CONNECT {host}:{port} HTTP/1.1\r\n{header}: {CLASS}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut head = Vec::new();
            // Nothing of what comes behind the head may be taken.
            while !head.ends_with(b"\r\n\r\n") && head.len() < 1024 {
                head.push(stream.read_u8().await?);
            }
            if head.starts_with(b"HTTP/1.1 200 ") {
                return Ok(stream);
            }
            let mut why = String::new();
            stream.take(ANSWER).read_to_string(&mut why).await?;
            Err(io::Error::other(format!("the link's door: {why}")))
        };
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = tokio::time::timeout(PATIENCE, asks).await.map_err(late)??;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use common::kafka::Settings as Servers;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn servers_of_the_core_are_let_through_the_door() {
        let of = |url: &str| servers(&broker::Settings::url(url));
        assert_eq!(of("kafka://a:9092,b:9093/"), ["a:9092", "b:9093"]);
        assert_eq!(of("sqlite:///x/broker.db"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn door_that_refuses_says_why() {
        let budget = Budget::detached(common::budget::Settings::default()).unwrap();
        let settings = door::Settings {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            allow: vec!["127.0.0.1:1".into()],
        };
        let door = door::Door::open(&budget, &settings).await.unwrap().unwrap();
        let through = Arc::new(Through { door: door.address() });
        let running = tokio::spawn(door.run());
        let cluster = Cluster::new(Servers::new("127.0.0.1:2", "test"), through);
        let refused = format!("{:?}", cluster.ping().await.unwrap_err());
        assert!(
            refused.contains("127.0.0.1:2 is not reached through this door"),
            "{refused}"
        );
        running.abort();
    }

    #[tokio::test]
    async fn bytes_go_both_ways_through_a_door() {
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        let budget = Budget::detached(common::budget::Settings::default()).unwrap();
        let settings = door::Settings {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            allow: vec![address.to_string()],
        };
        let door = door::Door::open(&budget, &settings).await.unwrap().unwrap();
        let through = Through { door: door.address() };
        let running = tokio::spawn(door.run());
        let echoes = tokio::spawn(async move {
            let (mut stream, _) = peer.accept().await.unwrap();
            let asked = stream.read_u8().await.unwrap();
            stream.write_u8(asked + 1).await.unwrap();
        });
        let mut stream = through.dial("127.0.0.1", address.port()).await.unwrap();
        stream.write_u8(41).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 42);
        echoes.await.unwrap();
        running.abort();
    }
}
