#![doc = include_str!("../README.md")]

mod carry;
mod commit;
mod document;
mod error;
mod export;
mod here;
mod import;
mod look;
mod objects;
mod plan;
mod resume;
mod scribe;
mod segment;
mod stick;

pub use document::{Carried, FORMAT, Manifest, Part, Place, Receipt, Segment};
pub use error::{Error, Result};
pub use export::{Exported, Since, export};
pub use here::{Here, Progress, Shown};
pub use import::{Imported, Wish, import};
pub use look::{Look, show};
pub use stick::Stick;
