//! Mirror against a real depot, both on embedded engines.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod faults;
mod limits;
mod line;
mod pipeline;
mod proxy;
mod site;
mod waste;
