//! Where a partition goes on, by its checkpoint here and what the bundle has of it.

use common::broker::Watermarks;
use common::schemas::{Checkpoint, LostRange};
use link::{Lane, checkpoint};

use crate::document::{Carried, Manifest, Part};

/// A partition on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Track<'b> {
    pub(crate) lane: &'b Lane,
    pub(crate) topic: &'b Carried,
    pub(crate) partition: i32,
    pub(crate) part: &'b Part,
}

/// Writes down what no bundle brings any more, up to `begin`; says how much that is.
pub(crate) fn lose(at: &mut Checkpoint, begin: i64, reason: &str) -> u64 {
    let count = begin - at.next_offset;
    at.lost.push(LostRange {
        source: at.next_offset,
        count,
        reason: reason.to_owned(),
    });
    checkpoint::bound(&mut at.lost);
    at.next_offset = begin;
    u64::try_from(count).unwrap_or(0)
}

/// Where to go on.
pub(crate) struct Resumed {
    pub(crate) at: Checkpoint,
    /// How many offsets are lost.
    pub(crate) lost: u64,
    /// Where it was when its offsets went back.
    pub(crate) went_back: Option<i64>,
}

/// Where to go on; nothing when there is nothing new. What keeps the partition from going on is an error, in an operator's
/// words.
pub(crate) fn resume(
    known: Option<Checkpoint>,
    track: Track<'_>,
    manifest: &Manifest,
    accept_loss: bool,
) -> Result<Option<Resumed>, String> {
    let Track {
        lane,
        topic,
        partition,
        part,
    } = track;
    let mut went_back = None;
    if let Some(known) = &known {
        let told = !known.source_epoch.is_empty() && !topic.epoch.is_empty();
        let before = checkpoint::topic_id(&known.source_epoch);
        let other = told && before != topic.epoch;
        // Ids have no order, and the clocks of two sites none that could be trusted: the source says which was before.
        if other && !topic.former.iter().any(|former| former == before) {
            if manifest.created_at <= known.carried_at {
                return Err(
                    "the topic was deleted and made again since this bundle was made, and records of the new one are \
                            here: those of the old one are left out"
                        .into(),
                );
            }
            if !accept_loss {
                return Err(format!(
                    "the topic was deleted and made again, and this bundle does not say whether its records are those of the \
                     new one: they are left out. Export at {} once more with the receipt that is on this stick now; or, \
                     if they are, say --accept-loss",
                    manifest.from
                ));
            }
        }
        let turn = checkpoint::turn(&known.source_epoch);
        if !other && part.turn > turn {
            went_back = Some(known.next_offset);
        } else if !other {
            let ahead = known.next_offset - part.end();
            if part.turn < turn && !part.segments.is_empty() && !accept_loss {
                return Err(format!(
                    "the topic's offsets went back, and this bundle does not say that its records are those of after: they are left \
                     out. Export at {} once more with the receipt that is on this stick now; or, if they are, say --accept-loss",
                    manifest.from
                ));
            }
            // An older bundle ends so, too; but one that was made since then, and of all that there was, has to go further.
            if part.turn == turn && ahead > 0 && manifest.whole && manifest.created_at > known.carried_at {
                return Err(format!(
                    "{} had records up to offset {} when this bundle was made, and earlier {ahead} more came from there: its offsets \
                     went back, or a clock is wrong. Export there once more with the receipt that is on this stick now",
                    manifest.from,
                    part.end()
                ));
            }
            if ahead >= 0 {
                return Ok(None);
            }
        }
    } else if part.segments.is_empty() && part.begin == part.low {
        return Ok(None);
    }
    let next = known.as_ref().map(|known| known.next_offset);
    // An end that lies before the checkpoint is that of an older bundle, unless it says that offsets went back.
    let high = match went_back {
        Some(next) => part.end().min(next - 1),
        None => part.end().max(next.unwrap_or(part.low)),
    };
    let marks = Watermarks { low: part.low, high };
    let fresh = known.is_none();
    let resumed = checkpoint::resume(known, lane, partition, &topic.epoch, marks);
    let (mut at, mut lost) = (resumed.checkpoint, 0);
    if fresh || resumed.anew {
        let id = checkpoint::topic_id(&at.source_epoch);
        at.source_epoch = checkpoint::epoch(id, part.turn);
    }
    if let Some(gone) = resumed.lost.filter(|gone| gone.count > 0) {
        if !accept_loss {
            return Err(format!(
                "offsets {} to {} are gone at {} and not in this bundle: import an earlier bundle first, or say --accept-loss",
                gone.source,
                part.low - 1,
                manifest.from,
            ));
        }
        lost += u64::try_from(gone.count).unwrap_or(0);
    }
    if part.begin > at.next_offset {
        if !accept_loss {
            return Err(format!(
                "this bundle begins at offset {}, and {} to {} are not here: import the bundle with those first, or say --accept-loss",
                part.begin,
                at.next_offset,
                part.begin - 1
            ));
        }
        lost += lose(
            &mut at,
            part.begin,
            "no bundle brought them, and the loss was accepted",
        );
    }
    Ok(Some(Resumed { at, lost, went_back }))
}
