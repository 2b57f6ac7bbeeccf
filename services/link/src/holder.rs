//! Who may carry: whose mark is the newest among a direction's checkpoints.
//!
//! A transactional id fences the carriers of one class, and a topic goes under the id of the class that it has now: two
//! instances of different settings may carry it under two ids. So whoever gets the lease leaves a mark among the
//! checkpoints, and only then takes over the ids of all classes; and a session takes over its id, and only then reads the
//! checkpoints with the newest mark, which must be its own instance's. Then a session that read before a later mark was
//! written is fenced by what follows that mark, whatever its id, and one that reads afterwards sees it and ends. No clock
//! and no lease has to be right for that.

use common::broker::Outgoing;
use common::schemas::{self, Checkpoint};

use crate::error::{Error, Result};

/// The key of marks. Those of checkpoints have the name of a route, and two slashes.
pub(crate) const KEY: &str = "holder";

/// A name that nobody had before.
pub fn anew() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The record that says who may carry. It has the form of a checkpoint, for readers that know no other.
///
/// # Errors
/// When it cannot be encoded.
pub fn mark(topic: &str, holder: &str) -> Result<Outgoing> {
    let mark = Checkpoint {
        route: KEY.to_owned(),
        partition: -1,
        next_offset: 0,
        source_epoch: holder.to_owned(),
        carried_at: common::chassis::now_ms(),
        ..Checkpoint::default()
    };
    let unwritable = |source| Error::Checkpoint {
        topic: topic.to_owned(),
        partition: -1,
        offset: -1,
        source,
    };
    Ok(Outgoing::new(
        topic,
        KEY,
        schemas::encode(&mark).map_err(unwritable)?,
    ))
}

/// Whether the newest mark is one's own.
pub(crate) fn confirm(newest: Option<&str>, own: &str) -> Result<()> {
    if newest == Some(own) {
        Ok(())
    } else {
        Err(Error::Superseded)
    }
}
