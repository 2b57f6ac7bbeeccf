//! Putting a record aside that the destination refuses.

use common::chassis::now_ms;
use common::kafka::Error as Wired;

use super::Batches;
use crate::carrier::Carrier;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::pieces::Piece;
use crate::refused::Refused;
use crate::session::Progress;

impl Batches {
    /// Puts the only record of a piece among the dead letters, and goes on behind it. A crash between the two repeats it:
    /// the copy names the same origin.
    pub(super) async fn put_aside(
        &mut self,
        carrier: &Carrier,
        progress: &mut Progress,
        (at, piece): (&(String, i32), Piece),
        refused: Refused,
    ) -> Result<()> {
        let damaged = |source| {
            Error::Wire(Wired::Damaged {
                topic: at.0.clone(),
                partition: at.1,
                source,
            })
        };
        let next = piece.next;
        let record = piece.only(at).map_err(damaged)?;
        let known = progress.get_mut(at).ok_or_else(|| Error::Stray {
            topic: at.0.clone(),
            partition: at.1,
        })?;
        let to = &known.destination_topic;
        let at_home = refused.put_aside(carrier, to, &record).await?;
        known.next_offset = next;
        known.carried_at = now_ms();
        let checkpoint = checkpoint::record(&carrier.checkpoints, known);
        self.note(carrier, vec![checkpoint]).await?;
        carrier.report.refused(&refused, at_home);
        Ok(())
    }
}
