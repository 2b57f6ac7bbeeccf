#![doc = include_str!("../README.md")]

mod answer;
mod deliveries;
mod desk;
mod error;
mod receipt;
mod service;
mod settings;
mod verdict;
mod withdrawal;

pub use error::{Error, Result};
pub use service::Responder;
pub use settings::{Settings, SiteSettings};
