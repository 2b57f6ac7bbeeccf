//! What tests of several crates need: waiting for a condition, names and ports of one's own, records to send, and a
//! poor line to send them over.

mod backup;
pub mod kafka_acls;
mod machine;
pub mod proxy;
mod records;
mod wait;

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub use backup::{Backup, closed};
pub use machine::{Machine, Watch, tried};
use rand::RngExt;
pub use records::{
    announced, asset_id, broadcast, cancel, downloaded, hash, preview, receipt, request, response, site,
};
pub use tempfile::TempDir;
pub use wait::eventually;

/// A name that no other test has, in this process or another, now or earlier.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{prefix}-{:x}-{:x}-{count:x}",
        since.as_millis(),
        std::process::id()
    )
}

/// A port that was free a moment ago, for programs that cannot be given port 0, and the same one only once. It is none of
/// those that the system gives to connections: one of them could have it a moment later.
///
/// # Panics
/// When the machine has none left.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many such ports in a row.
///
/// # Panics
/// When the machine has none left.
pub fn free_ports(count: u16) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let free = |port: u16| !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok();
    let tries = std::iter::repeat_with(|| rand::rng().random_range(26_000..32_000 - count));
    let first = tries
        .take(1000)
        .find(|first| (*first..first + count).all(free))
        .unwrap_or_else(|| panic!("no {count} free ports in a row"));
    given.extend(first..first + count);
    first
}

/// How often a crash test kills: `FIELDLINE_CHAOS_ROUNDS`, or as usual.
///
/// # Panics
/// When the variable holds no number.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment how long to go on"
)]
pub fn rounds(usual: usize) -> usize {
    match std::env::var("FIELDLINE_CHAOS_ROUNDS") {
        Ok(rounds) => rounds
            .parse()
            .unwrap_or_else(|_| panic!("FIELDLINE_CHAOS_ROUNDS is {rounds:?}, which is no number")),
        Err(_) => usual,
    }
}

/// A directory that goes away with the value.
///
/// # Panics
/// When it cannot be made.
pub fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"))
}

/// Every file under a directory, in order.
///
/// # Panics
/// When it cannot be read.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries: Vec<DirEntry> = std::fs::read_dir(directory)
        .and_then(Iterator::collect)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", directory.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The URL of an embedded engine's file: `sqlite:///dir/broker.db`.
pub fn sqlite(dir: &Path, file: &str) -> String {
    format!("sqlite://{}", dir.join(file).display())
}

/// A keyspace that no other test has, on the Cassandra that `CASSANDRA_URL` names.
///
/// # Panics
/// When nothing names one.
#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
pub fn keyspace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let url = std::env::var("CASSANDRA_URL")
        .unwrap_or_else(|_| panic!("CASSANDRA_URL is not set: make engines-up"));
    format!(
        "{url}_{}_{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The URL of a volume in a directory.
pub fn directory(dir: &Path, name: &str) -> String {
    format!("file://{}", dir.join(name).display())
}
