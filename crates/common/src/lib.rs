//! The one import of a service: the crates that carry records, rows, bytes and telemetry, under their own names.

pub use broker;
pub use budget;
pub use chassis;
pub use control;
pub use engines;
pub use identity;
pub use kafka;
pub use schemas;
pub use table;
pub use telemetry;
pub use volume;
