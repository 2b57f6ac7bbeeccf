//! The door: how another process of the site uses the same link under the same budget.
//!
//! It is an HTTP proxy on loopback that knows two requests. `CONNECT host:port`, with the class in the header
//! `fieldline-class` (`assets` without it), is answered when the connection stands, and from then on carries bytes both
//! ways; only addresses that were allowed can be reached: 403 for others, 503 with the reason while the class is held or too
//! many connections stand, 502 when the other side cannot be reached. `GET /budget` answers with the budget's
//! [`Status`](crate::Status) as JSON, however many connections stand.
//!
//! A connection may be silent as long as both sides keep it. When one of them has gone, or has no more to say, the other
//! direction goes on only while bytes move: whoever gave up because the line is dead must not have his place taken until the
//! system notices.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::budget::Budget;
use crate::class::Class;
use crate::error::{Error, Result};
use crate::shaped::Shaped;

/// The header that names the class.
pub const CLASS_HEADER: &str = "fieldline-class";

/// Connections through the door at once.
const CONNECTIONS: usize = 64;
/// Requests that are read and answered at once; more wait outside.
const REQUESTS: usize = 64;
const HEAD_BYTES: usize = 4096;
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How much of a connection is in hand in each direction.
const IN_HAND: usize = 16 * 1024;
/// How often it is looked whether a peer has gone whose bytes cannot be read now, for the far side takes none.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing may move when one side has gone.
const GONE: Duration = Duration::from_secs(5);

/// Where the door is, and where it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the door is, as "127.0.0.1:7450"; no door when unset.
    pub listen: Option<SocketAddr>,
    /// What can be reached through it, as "depot.example:7443"; nothing else can.
    pub allow: Vec<String>,
}

impl Settings {
    /// Whether this can work.
    ///
    /// # Errors
    /// Every problem, with its key.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if self.listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            problems.push("listen: a loopback address, as 127.0.0.1:7450".to_owned());
        }
        for address in &self.allow {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                problems.push(format!(
                    "allow: `{address}` is no address; write it as depot.example:7443"
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

/// An open door.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    budget: Budget,
    allow: Vec<String>,
}

impl Door {
    /// Opens it; none when the settings have none.
    ///
    /// # Errors
    /// When the settings cannot work or the address is taken.
    pub async fn open(budget: &Budget, settings: &Settings) -> Result<Option<Self>> {
        settings.validate().map_err(Error::Settings)?;
        let Some(listen) = settings.listen else {
            return Ok(None);
        };
        let failed = |source| Error::Door { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Self {
            listener,
            address,
            budget: budget.clone(),
            allow: settings
                .allow
                .iter()
                .map(|address| address.to_ascii_lowercase())
                .collect(),
        }))
    }

    /// Where it is; of port 0, the port that it was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets connections through until the future is dropped; then all of them are cut.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let requests = Arc::new(Semaphore::new(REQUESTS));
        let allow: Arc<[String]> = self.allow.into();
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(request) = Arc::clone(&requests).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((near, _)) => {
                    let (budget, allow) = (self.budget.clone(), Arc::clone(&allow));
                    let places = Arc::clone(&places);
                    connections.spawn(async move {
                        let served = async {
                            let asked = timeout(HEAD_TIME, ask(near, &budget, &allow, &places)).await;
                            drop(request);
                            match asked {
                                Ok(Ok(Some(wish))) => wish.serve(&budget).await,
                                Ok(Err(error)) => Err(error),
                                Ok(Ok(None)) | Err(_) => Ok(()),
                            }
                        };
                        if let Err(error) = served.await {
                            tracing::debug!(%error, "a connection through the door ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections at the door");
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// A connection that may go through.
struct Wish {
    near: TcpStream,
    address: String,
    class: Class,
    _place: OwnedSemaphorePermit,
}

/// Reads a request and answers it; what it wants when that is a connection.
async fn ask(
    mut near: TcpStream,
    budget: &Budget,
    allow: &[String],
    places: &Arc<Semaphore>,
) -> io::Result<Option<Wish>> {
    near.set_nodelay(true)?;
    let (status, kind, body) = match Request::parse(&head(&mut near).await?) {
        Request::Connect { address, .. } if !allow.contains(&address) => {
            let why = format!("{address} is not reached through this door");
            ("403 Forbidden", "text/plain", why)
        }
        Request::Connect { address, class } => {
            match (budget.admits(class), Arc::clone(places).try_acquire_owned()) {
                (Ok(()), Ok(place)) => {
                    return Ok(Some(Wish {
                        near,
                        address,
                        class,
                        _place: place,
                    }));
                }
                (Err(hold), _) => ("503 Service Unavailable", "text/plain", hold.to_string()),
                (Ok(()), Err(_)) => {
                    let why = format!(
                        "{CONNECTIONS} connections stand through this door, which is all it has room for"
                    );
                    ("503 Service Unavailable", "text/plain", why)
                }
            }
        }
        Request::Budget => {
            let status = serde_json::to_string(&budget.status()).unwrap_or_default();
            ("200 OK", "application/json", status)
        }
        Request::Wrong(why) => ("400 Bad Request", "text/plain", why),
    };
    answer(&mut near, status, kind, &body).await?;
    Ok(None)
}

impl Wish {
    async fn serve(mut self, budget: &Budget) -> io::Result<()> {
        let mut far = match budget.connect(&*self.address, self.class).await {
            Ok(far) => far,
            Err(error) => {
                let why = format!("cannot reach {}: {error}", self.address);
                return answer(&mut self.near, "502 Bad Gateway", "text/plain", &why).await;
            }
        };
        self.near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        carry(&mut self.near, &mut far).await
    }
}

/// Carries bytes both ways until both sides have ended, or one has and nothing moves any more.
async fn carry(near: &mut TcpStream, far: &mut Shaped<TcpStream>) -> io::Result<()> {
    let (moved, ended) = (AtomicU64::new(0), Notify::new());
    let (mut from_near, mut to_near) = near.split();
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let up = async {
        let mut part = vec![0; IN_HAND];
        loop {
            let read = from_near.read(&mut part).await?;
            if read == 0 {
                break;
            }
            let mut put = pin!(put(&part[..read], &mut to_far, &moved));
            tokio::select! {
                done = &mut put => done?,
                // The line takes nothing, and so its end would not be read either.
                () = gone(&from_near) => {
                    ended.notify_one();
                    put.await?;
                }
            }
        }
        ended.notify_one();
        to_far.shutdown().await
    };
    let down = async {
        let mut part = vec![0; IN_HAND];
        loop {
            let read = from_far.read(&mut part).await?;
            if read == 0 {
                break;
            }
            put(&part[..read], &mut to_near, &moved).await?;
        }
        ended.notify_one();
        to_near.shutdown().await
    };
    let over = async {
        ended.notified().await;
        let mut before = None;
        while before != Some(moved.load(Ordering::Relaxed)) {
            before = Some(moved.load(Ordering::Relaxed));
            sleep(GONE).await;
        }
    };
    tokio::select! {
        both = async { tokio::try_join!(up, down) } => both.map(drop),
        () = over => Ok(()),
    }
}

/// Writes all, and counts it.
async fn put(mut bytes: &[u8], to: &mut (impl AsyncWrite + Unpin), moved: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = to.write(bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        moved.fetch_add(written as u64, Ordering::Relaxed);
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Waits until a peer has no more to say, whether or not what it said before is read.
async fn gone(peer: &ReadHalf<'_>) {
    let more = async || {
        peer.ready(Interest::READABLE)
            .await
            .map(|ready| !ready.is_read_closed())
    };
    while more().await.unwrap_or_default() {
        sleep(LOOK).await;
    }
}

/// The head of a request, and nothing of what is behind it: a peer waits for the answer.
async fn head(near: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES {
            return Err(io::Error::other("the request is too long"));
        }
        let mut part = [0; 512];
        let read = near.read(&mut part).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let room = read.min(HEAD_BYTES - head.len());
        head.extend_from_slice(&part[..room]);
    }
    Ok(head)
}

async fn answer(near: &mut TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    near.write_all(text.as_bytes()).await?;
    near.shutdown().await
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Connect { address: String, class: Class },
    Budget,
    Wrong(String),
}

impl Request {
    fn parse(head: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(head) else {
            return Self::Wrong("this is no HTTP".to_owned());
        };
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("GET"), Some(path), Some(_)) if path == "/budget" || path.ends_with("/budget") => {
                Self::Budget
            }
            (Some("CONNECT"), Some(address), Some(_)) => {
                let headers = lines.filter_map(|line| line.split_once(':'));
                let mut named = headers.filter(|(name, _)| name.eq_ignore_ascii_case(CLASS_HEADER));
                let class = named
                    .next()
                    .map_or(Ok(Class::Assets), |(_, value)| value.trim().parse());
                let address = address.to_ascii_lowercase();
                class.map_or_else(Self::Wrong, |class| Self::Connect { address, class })
            }
            _ => Self::Wrong("the door knows CONNECT and GET /budget".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_address_and_class() {
        let connect = |class| Request::Connect {
            address: "core:7443".into(),
            class,
        };
        assert_eq!(
            Request::parse(b"CONNECT Core:7443 HTTP/1.1\r\nFieldline-Class: previews\r\n\r\n"),
            connect(Class::Previews)
        );
        assert_eq!(
            Request::parse(b"CONNECT core:7443 HTTP/1.1\r\nHost: x\r\n\r\n"),
            connect(Class::Assets)
        );
        assert_eq!(Request::parse(b"GET /budget HTTP/1.1\r\n\r\n"), Request::Budget);
        for wrong in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"CONNECT a:1 HTTP/1.1\r\nfieldline-class: x\r\n\r\n",
            b"\xff",
        ] {
            assert!(matches!(Request::parse(wrong), Request::Wrong(_)));
        }
    }

    #[test]
    fn a_door_is_on_loopback_and_leads_to_addresses() {
        let settings = Settings {
            listen: Some(([0, 0, 0, 0], 7450).into()),
            allow: vec!["depot".into()],
        };
        assert_eq!(settings.validate().unwrap_err().len(), 2);
        let settings = Settings {
            listen: Some(([127, 0, 0, 1], 7450).into()),
            allow: vec!["depot.example:7443".into()],
        };
        assert_eq!(settings.validate(), Ok(()));
    }
}
