//! A stream under the budget: it counts what crosses, and waits for its turn.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::budget::Inner;
use crate::class::Class;
use crate::system;

/// How often the size of a socket's buffers is looked at.
const RESIZE: Duration = Duration::from_millis(500);

/// Reads and writes of `S`, a turn at a time. Each direction pays for itself, after its bytes have moved, and goes on
/// when they are paid; so a short message on a quiet stream never waits. Of a socket, bytes count when they arrive, not
/// only when they are read.
pub struct Shaped<S> {
    stream: S,
    directions: Arc<Directions>,
    /// What was read, and what of it and behind it is on the bill.
    consumed: u64,
    billed: u64,
    socket: Option<Socket<S>>,
}

struct Socket<S> {
    of: fn(&S) -> &TcpStream,
    buffer: Option<u32>,
    looked_at: Instant,
}

/// Says what a stream carries from now on; it can be held apart from the stream.
#[derive(Clone)]
pub struct Label(Arc<Directions>);

struct Directions {
    budget: Arc<Inner>,
    incoming: u64,
    outgoing: u64,
}

impl Drop for Directions {
    fn drop(&mut self) {
        self.budget.leave(self.incoming);
        self.budget.leave(self.outgoing);
    }
}

impl Debug for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Label").finish_non_exhaustive()
    }
}

impl<S: Debug> Debug for Shaped<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shaped")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Label {
    /// What crosses from now on, and what is waiting to, is of that class.
    pub fn set(&self, class: Class) {
        self.0.budget.reclass(self.0.incoming, class);
        self.0.budget.reclass(self.0.outgoing, class);
    }
}

impl<S> Shaped<S> {
    pub(crate) fn new(
        budget: Arc<Inner>,
        stream: S,
        class: Class,
        socket: Option<fn(&S) -> &TcpStream>,
    ) -> Self {
        let (incoming, outgoing) = (budget.enter(class), budget.enter(class));
        let socket = socket.map(|of| {
            let buffer = budget.buffer();
            system::resize(of(&stream), buffer, false);
            Socket {
                of,
                buffer,
                looked_at: Instant::now(),
            }
        });
        Self {
            stream,
            directions: Arc::new(Directions {
                budget,
                incoming,
                outgoing,
            }),
            consumed: 0,
            billed: 0,
            socket,
        }
    }

    /// A handle that changes its class.
    pub fn label(&self) -> Label {
        Label(Arc::clone(&self.directions))
    }

    /// The stream itself, for what moves no bytes.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Counts what has arrived and is not counted yet.
    fn bill(&mut self) {
        let behind = self
            .socket
            .as_ref()
            .map_or(0, |socket| system::arrived((socket.of)(&self.stream)));
        let crossed = (self.consumed + behind).saturating_sub(self.billed);
        self.billed += crossed;
        self.directions.budget.crossed(self.directions.incoming, crossed);
    }

    fn resize(&mut self) {
        if let Some(socket) = &mut self.socket
            && socket.looked_at.elapsed() >= RESIZE
        {
            socket.looked_at = Instant::now();
            let buffer = self.directions.budget.buffer();
            if buffer != socket.buffer {
                system::resize((socket.of)(&self.stream), buffer, socket.buffer.is_some());
                socket.buffer = buffer;
            }
        }
    }
}

/// What arrived and nobody read any more has crossed all the same.
impl<S> Drop for Shaped<S> {
    fn drop(&mut self) {
        self.bill();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shaped<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let directions = &this.directions;
        let turn = ready!(directions.budget.admit(directions.incoming, context));
        let room = buffer.remaining().min(turn);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        this.consumed += read as u64;
        this.bill();
        this.resize();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shaped<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let directions = &this.directions;
        let turn = ready!(directions.budget.admit(directions.outgoing, context));
        let written =
            ready!(Pin::new(&mut this.stream).poll_write(context, &bytes[..bytes.len().min(turn)]))?;
        directions.budget.crossed(directions.outgoing, written as u64);
        this.resize();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
