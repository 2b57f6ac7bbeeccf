//! What wakes the requester before its next look: the word that a row changed.
//!
//! A wake-up is a hint. It is committed before its effect, and lost ones cost a poll's time at most.

use std::sync::Arc;

use common::broker::{Failure, Handler, Record};
use common::chassis::Service as _;
use common::schemas::{self, AssetChange};
use tokio::sync::Notify;

use crate::Requester;

/// Rings for every change that the requester has not made itself.
#[derive(Debug)]
pub(crate) struct Alarm {
    pub(crate) bell: Arc<Notify>,
}

/// The site's services that write rows but never ask for anything.
const NEVER_ASK: [&str; 3] = [Requester::NAME, "listener", "mirror"];

impl Handler for Alarm {
    async fn handle(&self, record: Record) -> Result<(), Failure> {
        let change: AssetChange = schemas::decode(record.value.as_deref().unwrap_or_default())?;
        if !NEVER_ASK.contains(&change.writer.as_str()) {
            self.bell.notify_one();
        }
        Ok(())
    }
}
