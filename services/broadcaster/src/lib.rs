#![doc = include_str!("../README.md")]

mod error;
mod publish;
mod service;
mod settings;

pub use error::{Error, Result};
pub use service::Broadcaster;
pub use settings::Settings;
