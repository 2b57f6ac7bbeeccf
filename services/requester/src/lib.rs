#![doc = include_str!("../README.md")]

mod error;
mod pending;
mod service;
mod settings;
mod wake;

pub use error::{Error, Result};
pub use service::Requester;
pub use settings::Settings;
