//! The contract against each engine, and crashes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

mod crash;
mod damage;
mod engines;

use volume::Settings;

fn directory(path: &std::path::Path) -> Settings {
    Settings {
        url: format!("file://{}", path.display()),
        ..Settings::default()
    }
}
