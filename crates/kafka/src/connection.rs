//! One connection: requests go out in order, answers come back in order, many may be under way.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dial::{Counted, Dial, Pulse, Stream, Traffic};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::settings::Settings;
use crate::{sasl, tls};

/// How many requests may wait for the socket.
const QUEUE: usize = 64;
/// The largest answer that is read: a batch that a topic takes, with room.
const LARGEST: usize = 256 * 1024 * 1024;

/// Answers that are due, in order.
type Due = Arc<Mutex<VecDeque<(i32, oneshot::Sender<Bytes>)>>>;

/// A connection to one server. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    client: StrBytes,
    patience: Duration,
    out: mpsc::Sender<(Frame, oneshot::Sender<Bytes>)>,
    versions: Vec<(i16, i16, i16)>,
    /// The level of the cluster's transactions; 2 is KIP-890's.
    transactions: i16,
    /// The shortest time that an answer took, in microseconds.
    round_trip: AtomicU64,
    pulse: Arc<Pulse>,
    ended: Arc<AtomicBool>,
    why: Arc<OnceLock<String>>,
    _tasks: JoinSet<()>,
}

/// An answer that is under way.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: oneshot::Receiver<Bytes>,
    address: String,
    pulse: Arc<Pulse>,
    due: Instant,
    patience: Duration,
    ended: Arc<AtomicBool>,
    why: Arc<OnceLock<String>>,
}

/// What is known of a connection that ended: TLS 1.3 tells a client only after the handshake that it is not let in.
fn over(address: &str, why: &OnceLock<String>) -> Error {
    let address = address.to_owned();
    match why.get() {
        Some(reason) => Error::Certificate {
            address,
            reason: reason.clone(),
        },
        None => Error::Ended { address },
    }
}

impl Connection {
    /// Connects, logs in, and asks which versions the server speaks.
    pub(crate) async fn open(
        settings: &Settings,
        dial: &dyn Dial,
        traffic: Arc<Traffic>,
        host: &str,
        port: u16,
    ) -> Result<Self> {
        let address = format!("{host}:{port}");
        let opening = Box::pin(Self::opened(settings, dial, traffic, host, port));
        tokio::time::timeout(settings.patience, opening)
            .await
            .map_err(|_| Error::Silent { address })?
    }

    async fn opened(
        settings: &Settings,
        dial: &dyn Dial,
        traffic: Arc<Traffic>,
        host: &str,
        port: u16,
    ) -> Result<Self> {
        let address = format!("{host}:{port}");
        let unreachable = |source| Error::Unreachable {
            address: address.clone(),
            source,
        };
        let pulse = Arc::new(Pulse::new());
        let counted = Counted {
            inner: dial.dial(host, port).await.map_err(unreachable)?,
            traffic,
            pulse: pulse.clone(),
        };
        let stream: Box<dyn Stream> = match &settings.tls {
            Some(tls) => tls::wrap(tls, host, counted).await.map_err(unreachable)?,
            None => Box::new(counted),
        };
        let (read, write) = tokio::io::split(stream);
        let (out, queue) = mpsc::channel(QUEUE);
        let (due, ended) = (Due::default(), Arc::new(AtomicBool::new(false)));
        let why = Arc::<OnceLock<String>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(sending(write, queue, due.clone(), ended.clone()));
        tasks.spawn(receiving(read, due, ended.clone(), why.clone()));
        let mut connection = Self {
            address,
            client: StrBytes::from_string(settings.client.clone()),
            patience: settings.patience,
            out,
            versions: Vec::new(),
            transactions: 0,
            round_trip: AtomicU64::new(u64::MAX),
            pulse,
            ended,
            why,
            _tasks: tasks,
        };
        let hello = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("fieldline"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let spoken = connection.call(&hello, 3, Duration::ZERO).await?;
        if spoken.error_code != 0 {
            return Err(connection.version("ApiVersions"));
        }
        let versions = spoken.api_keys.iter();
        connection.versions = versions
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let mut features = spoken.finalized_features.iter();
        let transactions = features.find(|feature| &*feature.name == "transaction.version");
        connection.transactions = transactions.map_or(0, |feature| feature.max_version_level);
        if let Some(login) = &settings.sasl {
            sasl::login(&connection, login).await?;
        }
        Ok(connection)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn client(&self) -> &StrBytes {
        &self.client
    }

    /// Whether requests can still be made.
    pub(crate) fn alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// The newest version of a request that both sides speak, within what this client was written for.
    pub(crate) fn speaks(&self, api: ApiKey, name: &'static str, lowest: i16, highest: i16) -> Result<i16> {
        let spoken = self.versions.iter().find(|(key, ..)| *key == api as i16);
        let (_, min, max) = *spoken.ok_or_else(|| self.version(name))?;
        let version = highest.min(max);
        if version < lowest.max(min) {
            return Err(self.version(name));
        }
        Ok(version)
    }

    /// Whether writing to a partition adds it to a transaction, in this cluster.
    pub(crate) fn has_newer_transactions(&self) -> bool {
        self.transactions >= 2
    }

    /// How long a round trip takes: the shortest so far, for the others waited for their turn on the line, or for the
    /// server.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    fn version(&self, api: &'static str) -> Error {
        let address = self.address.clone();
        Error::Version { address, api }
    }

    /// Asks and waits. The server itself may take `held` before it answers.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        version: i16,
        held: Duration,
    ) -> Result<R::Response> {
        let frame = Frame::of(request, version, &self.client)?;
        let began = Instant::now();
        let answer = self
            .send(frame, held)
            .await?
            .decode::<R::Response>(version)
            .await?;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.round_trip.fetch_min(took, Ordering::Relaxed);
        Ok(answer)
    }

    /// Puts a request on its way. Dropped before it returns, nothing was sent; afterwards all of it will be.
    pub(crate) async fn send(&self, frame: Frame, held: Duration) -> Result<Answer> {
        let (to, bytes) = oneshot::channel();
        let ended = |_| over(&self.address, &self.why);
        self.out.send((frame, to)).await.map_err(ended)?;
        Ok(Answer {
            bytes,
            address: self.address.clone(),
            pulse: self.pulse.clone(),
            due: Instant::now() + held,
            patience: self.patience,
            ended: self.ended.clone(),
            why: self.why.clone(),
        })
    }
}

impl Answer {
    /// Waits for the answer, as long as bytes move on the connection.
    pub(crate) async fn decode<T: Decodable + HeaderVersion>(mut self, version: i16) -> Result<T> {
        let mut bytes = loop {
            let limit = self.due.max(self.pulse.last()) + self.patience;
            match tokio::time::timeout_at(limit, &mut self.bytes).await {
                Ok(Ok(bytes)) => break bytes,
                Ok(Err(_)) => {
                    return Err(over(&self.address, &self.why));
                }
                Err(_) if self.pulse.last() + self.patience > Instant::now() => {}
                Err(_) => {
                    // Nothing moves on it any more: whoever asks next takes another connection.
                    self.ended.store(true, Ordering::Release);
                    return Err(Error::Silent {
                        address: self.address,
                    });
                }
            }
        };
        let malformed = |_| Error::Malformed { what: "answer" };
        ResponseHeader::decode(&mut bytes, T::header_version(version)).map_err(malformed)?;
        T::decode(&mut bytes, version).map_err(malformed)
    }
}

async fn sending(
    mut write: WriteHalf<Box<dyn Stream>>,
    mut queue: mpsc::Receiver<(Frame, oneshot::Sender<Bytes>)>,
    due: Due,
    ended: Arc<AtomicBool>,
) {
    let next = AtomicI32::new(0);
    while let Some((frame, to)) = queue.recv().await {
        let correlation = next.fetch_add(1, Ordering::Relaxed);
        due.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back((correlation, to));
        if ended.load(Ordering::Acquire) {
            break;
        }
        if let Err(error) = write_all(&mut write, frame.seal(correlation)).await {
            tracing::debug!(%error, "connection ended while sending");
            break;
        }
    }
    end(&due, &ended);
}

async fn write_all(write: &mut WriteHalf<Box<dyn Stream>>, parts: Vec<Bytes>) -> io::Result<()> {
    let mut all = Parts(parts.into());
    while all.has_remaining() {
        if write.write_buf(&mut all).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    write.flush().await
}

/// Several pieces of bytes, as one to write.
struct Parts(VecDeque<Bytes>);

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0
            .iter()
            .find(|part| !part.is_empty())
            .map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let parts = self.0.iter().filter(|part| !part.is_empty());
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = io::IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            let step = count.min(first.len());
            first.advance(step);
            count -= step;
            if !first.is_empty() {
                return;
            }
            self.0.pop_front();
        }
    }
}

async fn receiving(
    mut read: ReadHalf<Box<dyn Stream>>,
    due: Due,
    ended: Arc<AtomicBool>,
    why: Arc<OnceLock<String>>,
) {
    if let Err(error) = receive(&mut read, &due).await {
        tracing::debug!(%error, "connection ended while receiving");
        if let Some(alert) = tls::alert(&error) {
            drop(why.set(alert));
        }
    }
    end(&due, &ended);
}

async fn receive(read: &mut ReadHalf<Box<dyn Stream>>, due: &Due) -> io::Result<()> {
    loop {
        let length = usize::try_from(read.read_i32().await?).unwrap_or_default();
        if !(4..=LARGEST).contains(&length) {
            return Err(io::Error::other("an answer of impossible length"));
        }
        let mut bytes = BytesMut::with_capacity(length);
        read_whole(read, &mut bytes, length).await?;
        let bytes = bytes.freeze();
        let correlation = (&bytes[..4]).get_i32();
        let waiting = due.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match waiting {
            // The header is decoded by who knows its version; it begins with the correlation id.
            Some((expected, to)) if expected == correlation => drop(to.send(bytes)),
            _ => return Err(io::Error::other("an answer that nobody asked for")),
        }
    }
}

async fn read_whole(
    read: &mut ReadHalf<Box<dyn Stream>>,
    bytes: &mut BytesMut,
    length: usize,
) -> io::Result<()> {
    while bytes.len() < length {
        let missing = length - bytes.len();
        if read.read_buf(&mut (&mut *bytes).limit(missing)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Nobody waits for answers that do not come any more.
fn end(due: &Due, ended: &AtomicBool) {
    ended.store(true, Ordering::Release);
    due.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
