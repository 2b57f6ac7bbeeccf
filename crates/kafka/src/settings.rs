//! Which servers, and how to be let in. Plain values: who reads configuration turns it into these.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Servers to begin with, `host:port`.
    pub servers: Vec<String>,
    /// How this client shows up in the server's logs.
    pub client: String,
    /// TLS, when it is on.
    pub tls: Option<Tls>,
    /// User and password, when they are asked for.
    pub sasl: Option<Sasl>,
    /// How long nothing may move on a connection while an answer is due.
    pub patience: Duration,
}

impl Settings {
    /// Plain connections to these servers (`host:port,host:port`).
    pub fn new(servers: &str, client: &str) -> Self {
        Self {
            servers: servers.split(',').map(str::to_owned).collect(),
            client: client.to_owned(),
            tls: None,
            sasl: None,
            patience: Duration::from_secs(20),
        }
    }
}

/// TLS, as PEM files; they are read anew for each connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authority that signed the servers' certificates; none is the system's.
    pub ca: Option<PathBuf>,
    /// This client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whoever answers is taken for the server. For a moment of need: nothing is secret then.
    pub unverified: bool,
}

/// User and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
