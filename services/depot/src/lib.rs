#![doc = include_str!("../README.md")]

mod batch;
mod error;
mod manifest;
mod metrics;
mod patience;
mod range;
mod routes;
mod serve;
mod service;
mod settings;
mod standing;
mod sweep;
mod tls;

pub use service::Depot;
pub use settings::{Settings, Tls};
