//! downloader against embedded engines and a web server of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod faults;
mod links;
mod pipeline;
mod server;
mod site;
