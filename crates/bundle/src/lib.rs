#![doc = include_str!("../README.md")]

mod carry;
mod document;
mod error;
mod export;
mod here;
mod import;
mod objects;
mod segment;
mod stick;

pub use document::{Carried, FORMAT, Manifest, Part, Place, Receipt, Segment};
pub use error::{Error, Result};
pub use export::{Exported, Since, export};
pub use here::{Here, Progress, Shown, in_classes};
pub use import::{Imported, Look, Wish, import, show};
pub use stick::Stick;
