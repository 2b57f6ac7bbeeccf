//! What every service stands on: settings, a host that owns its tasks, health, an admin port, and an orderly stop.
//!
//! A service implements [`Service`] and its `main` is [`main`]. Everything that a service would otherwise keep in
//! globals is in its [`Host`], so one process can run many services of many sites ([`Group`]). A task that fails or
//! panics stops its host, and the failure is what the process exits with: a service is never half alive.

mod admin;
mod cli;
mod group;
mod health;
mod host;
mod layers;
mod run;
mod sections;
mod settings;

pub use cli::{environment, main, provide_tls, runtime};
pub use group::{Entry, Group, Member};
pub use health::Readiness;
pub use host::{Host, HostState, now_ms};
pub use run::{Again, Fenced, Service, run_in};
pub use sections::{Config, Invalid, Loaded};
pub use settings::{HostSettings, Settings, prefixed};
pub use tokio_util::sync::CancellationToken as Stop;
pub use units;
pub use units::{ByteSize, Secret, Span};

/// The release this crate was built as; all crates share one version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
