//! A line that is slow, long, broken or dirty: a TCP proxy whose conditions change while it runs.
//!
//! All connections through one proxy share one line, as those of a site do: one rate each way, one delay each way. Bytes
//! keep their order and none is lost but by a cut; what a real line does to packets, TCP hides from both ends anyway.
//! Rates count what TCP carries, not the headers of its packets. Everything random comes from the seed that is given.
//!
//! *Up* is away from whoever connects, *down* is towards them.

mod connection;
mod line;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use line::{Line, Order};

/// Small, so that a slow line pushes back on the sender soon; large enough not to be what limits a fast one.
const RECEIVE_BUFFER: u32 = 64 * 1024;
const BACKLOG: u32 = 256;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From those who connect.
    Up,
    /// Towards those who connect.
    Down,
}

/// What one direction does to bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lane {
    /// How long each byte is on its way; half of what this adds to a round trip when it is the same both ways.
    pub delay: Duration,
    /// Bytes per second over all connections; none is no limit.
    pub rate: Option<u64>,
    /// One bit is flipped in about this many bytes; none is never.
    pub flip: Option<u64>,
    /// A connection is cut once in about this many bytes of the line, at any byte; none is never.
    pub cut: Option<u64>,
}

/// Whether anything moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flow {
    /// Bytes are carried.
    #[default]
    Open,
    /// Connections stay and new ones are accepted, but nothing moves until this ends; then everything goes on.
    Stalled,
    /// Open connections stay and nothing moves in them; new ones are reset.
    Dark,
}

/// How the line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// From those who connect.
    pub up: Lane,
    /// Towards those who connect.
    pub down: Lane,
    /// Whether anything moves.
    pub flow: Flow,
}

impl Conditions {
    /// Both ways alike: bits per second, and the time that a round trip takes at least.
    pub fn slow(bits_per_second: u64, round_trip: Duration) -> Self {
        let lane = Lane {
            delay: round_trip / 2,
            rate: Some(bits_per_second / 8),
            ..Lane::default()
        };
        Self {
            up: lane,
            down: lane,
            flow: Flow::Open,
        }
    }

    /// One direction of it.
    pub fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// One direction of it, to be changed.
    pub fn lane_mut(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// How a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both ends get a reset.
    Reset,
    /// Both ends read an end of file.
    Fin,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one that connected.
    Client,
    /// The one that was connected to.
    Server,
}

/// What has gone over the line so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from those who connect.
    pub up: u64,
    /// Bytes towards those who connect.
    pub down: u64,
    /// Pieces that they went in, both ways: at least as many packets there were.
    pub pieces: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were cut, reset or left half open on purpose.
    pub cut: u64,
    /// Bits that were flipped.
    pub flipped: u64,
}

impl Carried {
    /// Bytes of both directions.
    pub fn bytes(&self) -> u64 {
        self.up + self.down
    }

    /// What has been carried since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            up: self.up - earlier.up,
            down: self.down - earlier.down,
            pieces: self.pieces - earlier.pieces,
            connections: self.connections - earlier.connections,
            cut: self.cut - earlier.cut,
            flipped: self.flipped - earlier.flipped,
        }
    }
}

/// Sees what goes over the line, after flips, in order within a connection and direction.
pub trait Tap: Send + Sync + std::fmt::Debug {
    /// These bytes went this way in this connection.
    fn saw(&self, connection: u64, way: Way, bytes: &[u8]);
}

/// A running proxy; it ends, with all its connections, when it is dropped. Its address is free then for another one.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    door: Arc<Door>,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens at `listen` (port 0 picks one) and carries to `upstream`, at first as if it were not there.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn start(listen: &str, upstream: &str, seed: u64) -> io::Result<Self> {
        Self::tapped(listen, upstream, seed, None).await
    }

    /// The same, with somebody who looks at all bytes.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn tapped(
        listen: &str,
        upstream: &str,
        seed: u64,
        tap: Option<Arc<dyn Tap>>,
    ) -> io::Result<Self> {
        let (listener, upstream) = (listen_at(address(listen)?)?, address(upstream)?);
        let address = listener.local_addr()?;
        let line = Arc::new(Line::new(seed, tap));
        let door = Arc::new(Door(Mutex::new(Some(listener))));
        let task = tokio::spawn(accept(door.clone(), upstream, line.clone()));
        Ok(Self {
            address,
            door,
            line,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the line is now.
    pub fn conditions(&self) -> Conditions {
        self.line.conditions()
    }

    /// Changes the line, for open connections too; bytes that are on their way keep their old delay.
    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        self.line.change(change);
    }

    /// Makes the line so.
    pub fn set(&self, conditions: Conditions) {
        self.change(|now| *now = conditions);
    }

    /// Cuts all connections at once.
    pub fn cut(&self, cut: Cut) {
        self.line.tell(Order::Cut(cut));
    }

    /// Cuts the connection that carries the byte after the next `bytes` of this direction, before that byte.
    pub fn cut_after(&self, way: Way, bytes: u64, cut: Cut) {
        self.line.arm(way, bytes, cut);
    }

    /// Resets the other end of all connections; `kept` is told nothing, and nothing answers it any more.
    pub fn half_open(&self, kept: End) {
        self.line.tell(Order::HalfOpen(kept));
    }

    /// What has gone over the line so far.
    pub fn carried(&self) -> Carried {
        self.line.carried()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.door.close();
        self.task.abort();
        self.line.tell(Order::Cut(Cut::Reset));
    }
}

/// The listener, which is closed by whoever drops the proxy: a task that was aborted drops what it holds some time later.
#[derive(Debug)]
struct Door(Mutex<Option<TcpListener>>);

impl Door {
    fn close(&self) {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(listener);
    }

    /// Whoever comes next; none when it is closed.
    async fn accept(&self) -> Option<io::Result<TcpStream>> {
        poll_fn(|context| {
            let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(listener) = listener.as_ref() else {
                return Poll::Ready(None);
            };
            let accepted = listener.poll_accept(context);
            accepted.map(|accepted| Some(accepted.map(|(stream, _)| stream)))
        })
        .await
    }
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text} is no address: {error}"),
        )
    })
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(socket)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(door: Arc<Door>, upstream: SocketAddr, line: Arc<Line>) {
    let mut number = 0_u64;
    while let Some(accepted) = door.accept().await {
        // Out of descriptors, most likely: others will be closed.
        let Ok(client) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        number += 1;
        line.accepted();
        tokio::spawn(connection::carry(line.clone(), client, upstream, number));
    }
}
