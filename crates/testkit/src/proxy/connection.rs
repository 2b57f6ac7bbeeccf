//! One connection: each direction reads, pays for the line, waits out the delay, writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::line::{Line, Order, distance};
use super::{Cut, End, Flow, Way, socket};

/// On a limited line connections take turns by pieces like TCP's own.
const PACKET: usize = 1448;
const PIECE: usize = 64 * 1024;
/// Bytes of a connection on their way in one direction, at most: more than any delay times rate that is tried.
const UNDER_WAY: usize = 16 * 1024 * 1024;
/// And on a limited line at least; a long fat one holds more. What it holds the far end need not have read.
const UNDER_WAY_LIMITED: usize = 256 * PACKET;
/// How long the ends may take to close after a `Fin`.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a connection does not end by both ends closing it.
#[derive(Debug, Clone, Copy)]
enum Ended {
    Cut(Cut),
    /// One end was reset or is gone; so is the other then.
    Broken,
    Order(Order),
}

/// What was read together, and when it arrives.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    room: OwnedSemaphorePermit,
}

/// Carries one connection to its end.
pub(super) async fn carry(line: Arc<Line>, mut client: TcpStream, upstream: SocketAddr, number: u64) {
    let mut orders = line.orders();
    if line.conditions().flow == Flow::Dark {
        line.ended();
        return reset(client);
    }
    let order = async |orders: &mut tokio::sync::watch::Receiver<Option<Order>>| {
        // The sender lives as long as the line.
        let _told = orders.changed().await;
        orders.borrow().unwrap_or(Order::Cut(Cut::Reset))
    };
    let connect = async {
        line.open().await;
        socket(upstream)?.connect(upstream).await
    };
    let mut server = tokio::select! {
        connected = connect => match connected {
            Ok(server) => server,
            Err(_) => return reset(client),
        },
        order = order(&mut orders) => {
            line.ended();
            return match order {
                Order::HalfOpen(End::Client) => forget(client).await,
                _ => reset(client),
            };
        }
    };
    // Delays are this proxy's own business; Nagle's would come on top.
    let _best_effort = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(&line, number, Way::Up, from_client, to_server),
                pump(&line, number, Way::Down, from_server, to_client)
            )
        };
        tokio::select! {
            ended = both => ended.err(),
            order = order(&mut orders) => Some(Ended::Order(order)),
        }
    };
    if matches!(ended, Some(Ended::Cut(_) | Ended::Order(_))) {
        line.ended();
    }
    match ended {
        None => {}
        Some(Ended::Broken | Ended::Cut(Cut::Reset) | Ended::Order(Order::Cut(Cut::Reset))) => {
            reset(client);
            reset(server);
        }
        Some(Ended::Cut(Cut::Fin) | Ended::Order(Order::Cut(Cut::Fin))) => {
            let _gone = timeout(GOODBYE, async { tokio::join!(close(client), close(server)) }).await;
        }
        Some(Ended::Order(Order::HalfOpen(End::Client))) => {
            reset(server);
            forget(client).await;
        }
        Some(Ended::Order(Order::HalfOpen(End::Server))) => {
            reset(client);
            forget(server).await;
        }
    }
}

async fn pump(
    line: &Line,
    number: u64,
    way: Way,
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
) -> Result<(), Ended> {
    // Pieces are as small as they come, so it is their bytes that are bounded.
    let (send, receive) = mpsc::unbounded_channel();
    tokio::try_join!(
        take(line, way, from, send),
        deliver(line, number, way, to, receive)
    )?;
    Ok(())
}

async fn take(
    line: &Line,
    way: Way,
    mut from: ReadHalf<'_>,
    under_way: mpsc::UnboundedSender<Piece>,
) -> Result<(), Ended> {
    let mut buffer = vec![0; PIECE];
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    loop {
        line.open().await;
        let limited = line.conditions().lane(way).rate.is_some();
        let most = if limited { PACKET } else { PIECE };
        let count = from
            .read(&mut buffer[..most])
            .await
            .map_err(|_error| Ended::Broken)?;
        if count == 0 {
            return Ok(());
        }
        line.send(way, count).await;
        let due = Instant::now() + line.conditions().lane(way).delay;
        // It is never closed.
        let Ok(room) = Arc::clone(&room)
            .acquire_many_owned(share(line, way, count))
            .await
        else {
            return Ok(());
        };
        let bytes = buffer[..count].to_vec();
        if under_way.send(Piece { due, bytes, room }).is_err() {
            return Ok(());
        }
    }
}

/// How much of the room such a piece takes: all of it is what the line holds, and a little more.
fn share(line: &Line, way: Way, count: usize) -> u32 {
    let lane = *line.conditions().lane(way);
    let held = lane.rate.map_or(UNDER_WAY, |rate| {
        // Truncated on purpose: whole bytes, never negative.
        let on_the_way = (rate as f64 * lane.delay.as_secs_f64() * 1.25) as usize;
        on_the_way.clamp(UNDER_WAY_LIMITED, UNDER_WAY)
    });
    u32::try_from((count * UNDER_WAY / held).min(UNDER_WAY)).unwrap_or(u32::MAX)
}

async fn deliver(
    line: &Line,
    number: u64,
    way: Way,
    mut to: WriteHalf<'_>,
    mut under_way: mpsc::UnboundedReceiver<Piece>,
) -> Result<(), Ended> {
    let mut flips = Flips::new(line.random(number, way));
    while let Some(Piece { due, mut bytes, room }) = under_way.recv().await {
        sleep_until(due).await;
        line.open().await;
        flips.apply(line, way, &mut bytes);
        let (going, cut) = line.until_cut(way, bytes.len());
        to.write_all(&bytes[..going])
            .await
            .map_err(|_error| Ended::Broken)?;
        drop(room);
        line.saw(number, way, &bytes[..going]);
        if let Some(cut) = cut {
            return Err(Ended::Cut(cut));
        }
    }
    // An end that is gone already needs no end of file.
    let _told = to.shutdown().await;
    Ok(())
}

/// Which bits of a direction are flipped.
struct Flips {
    random: StdRng,
    mean: u64,
    next: u64,
}

impl Flips {
    fn new(random: StdRng) -> Self {
        Self {
            random,
            mean: 0,
            next: 0,
        }
    }

    fn apply(&mut self, line: &Line, way: Way, piece: &mut [u8]) {
        let Some(mean) = line.conditions().lane(way).flip else {
            self.mean = 0;
            return;
        };
        if self.mean != mean {
            self.mean = mean;
            self.next = distance(&mut self.random, mean);
        }
        let mut at = 0_u64;
        while at + self.next < piece.len() as u64 {
            at += self.next;
            if let Some(byte) = usize::try_from(at).ok().and_then(|at| piece.get_mut(at)) {
                *byte ^= 1 << self.random.random_range(0..8);
                line.flipped();
            }
            at += 1;
            self.next = distance(&mut self.random, mean);
        }
        self.next -= (piece.len() as u64).saturating_sub(at).min(self.next);
    }
}

fn reset(stream: TcpStream) {
    // Without it the end is an orderly one: as good as one can do.
    let _best_effort = stream.set_zero_linger();
    drop(stream);
}

async fn close(mut stream: TcpStream) {
    let _told = stream.shutdown().await;
    forget(stream).await;
}

/// Takes what still comes, which goes nowhere, until the end closes.
async fn forget(mut stream: TcpStream) {
    let mut buffer = vec![0; PACKET];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}
