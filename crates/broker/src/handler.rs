//! What a service gives to the consumer loop: an effect for each record, and a class for each failure.

use std::fmt;

use crate::error::Source;
use crate::record::Record;

/// Makes the effect of one record durable. The loop commits after it; a crash in between repeats it, so it must be
/// idempotent. Called concurrently, but in order for records of one key. Cancelled (dropped) only when its partition
/// is taken away or the service stops and it does not finish in time.
pub trait Handler: Send + Sync + 'static {
    /// Handles one record.
    fn handle(&self, record: Record) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What the loop does about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again, with back-off, for ever; the record's key waits, order holds.
    Retry,
    /// Put the record aside as a dead letter and go on.
    Poison,
    /// Stop: going on would do harm.
    Fatal,
}

impl Class {
    /// The class as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Poison => "poison",
            Self::Fatal => "fatal",
        }
    }
}

/// An error that knows its class.
pub trait Classify: std::error::Error {
    /// What to do about it.
    fn class(&self) -> Class;
}

impl Classify for schemas::Error {
    fn class(&self) -> Class {
        Class::Poison
    }
}

/// Why a handler did not handle a record.
pub struct Failure {
    class: Class,
    error: Source,
}

impl Failure {
    /// Something that may pass.
    pub fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            class: Class::Retry,
            error: error.into(),
        }
    }

    /// Something wrong with this record.
    pub fn poison(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            class: Class::Poison,
            error: error.into(),
        }
    }

    /// Something wrong with this service.
    pub fn fatal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            class: Class::Fatal,
            error: error.into(),
        }
    }

    /// What the loop will do.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The error.
    pub fn error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.error
    }

    pub(crate) fn into_source(self) -> Source {
        self.error
    }

    /// The error and its sources on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.error.to_string();
        let mut source = self.error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("class", &self.class)
            .field("error", &self.chain())
            .finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: Classify + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            class: error.class(),
            error: Box::new(error),
        }
    }
}
