//! The commands as a user types them: what they print, what they say of errors, and their exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "tests: a seed is printed, and comes by the environment"
)]

mod arguments;
mod at_rest;
mod between_kafkas;
mod bundles;
mod kills;
mod rig;
mod running;
