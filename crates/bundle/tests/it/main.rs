//! What a bundle promises, between two sites that have nothing but a stick.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "tests: engines and seeds come by the environment, and a seed is printed"
)]

mod assets;
mod damage;
mod exchange;
mod full;
mod kafka;
mod kills;
mod patterns;
mod records;
mod rig;
mod went_back;
