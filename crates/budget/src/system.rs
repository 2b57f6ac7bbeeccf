//! Sockets whose buffers hold little, for bytes in the system's hands have crossed already or can no longer be put off.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio::time::{Instant, timeout};

/// How long bytes may lie in a buffer, beside the time that they are on their way.
const DEPTH: Duration = Duration::from_millis(250);
/// The least that a socket works well with.
const LEAST: u64 = 4096;
/// What a socket gets that had a fixed size and needs one no more, and the most that is asked for.
const WIDE: u32 = 8 << 20;
/// What fits on any network.
const SEGMENT: u32 = 1220;
/// How much of what was not sent yet the system takes without a cap: more would go on crossing when one is set.
const UNSENT: u32 = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(30);

/// How large a socket's buffers should be under a cap. The system takes it as the least, and twice as much as the most.
pub(crate) fn buffer(cap: u64, round_trip: Duration) -> u32 {
    let depth = DEPTH + round_trip.min(Duration::from_secs(2));
    let millis = u64::try_from(depth.as_millis()).unwrap_or(u64::MAX);
    let bytes = (cap.saturating_mul(millis) / 1000).max(LEAST);
    u32::try_from(bytes).unwrap_or(WIDE).min(WIDE)
}

/// Connects, and tells how long it took: that is a round trip.
pub(crate) async fn connect(
    address: impl ToSocketAddrs,
    buffer: Option<u32>,
) -> io::Result<(TcpStream, Duration)> {
    let mut last = None;
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(size) = buffer {
            // Before the connection: what was once offered to the peer cannot be taken back.
            socket.set_recv_buffer_size(size)?;
            socket.set_send_buffer_size(size)?;
            // On loopback a segment is as large as such a buffer, and both sides would wait for timers.
            SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
        }
        let began_at = Instant::now();
        match timeout(CONNECT, socket.connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
                return Ok((stream, began_at.elapsed()));
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// Bytes that have arrived and were not read yet.
pub(crate) fn arrived(stream: &TcpStream) -> u64 {
    rustix::io::ioctl_fionread(stream).unwrap_or_default()
}

/// Gives an open socket buffers of another size; `fixed` says whether it had one before.
pub(crate) fn resize(stream: &TcpStream, buffer: Option<u32>, fixed: bool) {
    let Some(size) = buffer
        .or_else(|| fixed.then_some(WIDE))
        .and_then(|size| usize::try_from(size).ok())
    else {
        return;
    };
    let socket = SockRef::from(stream);
    // It works with any size; only the cap would be kept less exactly.
    drop(socket.set_recv_buffer_size(size));
    drop(socket.set_send_buffer_size(size));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_holds_what_is_on_its_way_and_little_more() {
        assert_eq!(buffer(32_000, Duration::from_millis(750)), 32_000);
        assert_eq!(u64::from(buffer(1000, Duration::ZERO)), LEAST);
        assert_eq!(buffer(u64::MAX, Duration::from_secs(9)), WIDE);
    }
}
