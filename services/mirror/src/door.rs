//! The link's door: whether assets may cross now, as the budget of the link says.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use common::budget::{Class, Hold, Status, door::CLASS_HEADER};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// On loopback an answer is there at once.
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_BYTES: u64 = 64 * 1024;

/// What is asked of the door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    address: SocketAddr,
}

async fn ask(address: SocketAddr) -> io::Result<Status> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /budget HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer).await?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    serde_json::from_str(body).map_err(io::Error::other)
}

impl Door {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The way to the depot through the door.
    pub(crate) fn proxy(address: SocketAddr) -> Result<reqwest::Proxy> {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static(CLASS_HEADER),
            HeaderValue::from_static(Class::Assets.name()),
        );
        let proxy = reqwest::Proxy::https(format!("http://{address}"));
        Ok(proxy.map_err(|source| Error::Client { source })?.headers(headers))
    }

    /// The budget, if assets may cross now.
    ///
    /// # Errors
    /// [`Error::Held`] when they may not; [`Error::Door`] when nobody answers.
    pub(crate) async fn budget(&self) -> Result<Status> {
        let answer = timeout(PATIENCE, ask(self.address)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let status = answer.map_err(|source| Error::Door {
            address: self.address,
            source,
        })?;
        match status.held(Class::Assets) {
            Some(hold) => Err(Error::Held { hold }),
            None => Ok(status),
        }
    }

    /// Ends when assets may no longer cross, and says why.
    pub(crate) async fn shut(&self, look: Duration) -> Hold {
        loop {
            tokio::time::sleep(look).await;
            // A link that restarts cuts the copies anyway.
            if let Err(Error::Held { hold }) = self.budget().await {
                return hold;
            }
        }
    }
}
