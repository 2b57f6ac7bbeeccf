#![doc = include_str!("../README.md")]

pub mod address;
mod backoff;
mod client;
mod error;
pub mod fetch;
pub mod file_name;
pub mod media_type;
mod pipeline;
pub mod preview;
mod service;
mod settings;
mod settled;
mod source;

pub use error::{Error, Result};
pub use service::Downloader;
pub use settings::{PreviewSettings, Settings};
