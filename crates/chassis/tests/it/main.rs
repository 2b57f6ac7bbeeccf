//! The chassis from outside: settings, hosts, groups, and a whole service's binary.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod binary;
mod group;
mod host;
mod settings;
