//! Which columns of table `assets` each record of the core fills: pure functions.
//!
//! Every write carries the record's own time, so a record that comes again, or comes late, cannot overwrite what a
//! newer one wrote, whatever the order of arrival.

use common::schemas::{AssetBroadcast, AssetId, AssetPreview, AssetResponse, Outcome};
use common::table::{Value, Write};

use crate::error::{Error, Result};

/// The largest preview that a row may hold: rows are read many at a time.
pub(crate) const PREVIEW_BYTES: usize = 64 * 1024;

/// What browsers show and no browser runs.
const PREVIEW_TYPES: [&str; 4] = ["image/webp", "image/jpeg", "image/png", "image/gif"];

fn row(asset_id: &AssetId, timestamp: i64) -> Write {
    Write::to("assets")
        .set("bucket", asset_id.bucket())
        .set("asset_id", asset_id.as_str())
        .at(timestamp.saturating_mul(1000))
}

/// What a broadcast tells. A withdrawal is only ever set: no later broadcast clears it.
pub(crate) fn broadcast(record: AssetBroadcast, timestamp: i64) -> (AssetId, Write) {
    let mut row = row(&record.asset_id, timestamp)
        .set("title", record.title)
        .set("description", record.description)
        .set("credit", record.credit)
        .set("hash", record.hash.as_str())
        .set("size", record.size)
        .set("media_type", record.media_type)
        .set("file_name", record.file_name)
        .set("created_at", Value::timestamp(record.created_at))
        .set("broadcast_at", Value::timestamp(record.broadcast_at))
        .set("expires_at", Value::timestamp(record.expires_at));
    if let Some(withdrawn_at) = record.withdrawn_at {
        row = row
            .set("withdrawn_at", Value::timestamp(withdrawn_at))
            .set("withdrawn_reason", record.reason);
    }
    (record.asset_id, row)
}

/// A small picture, if it is one.
pub(crate) fn preview(record: AssetPreview, timestamp: i64) -> Result<(AssetId, Write)> {
    let AssetPreview {
        asset_id,
        media_type,
        picture,
        ..
    } = record;
    if picture.len() > PREVIEW_BYTES {
        return Err(Error::PreviewTooLarge {
            asset_id,
            bytes: picture.len(),
            limit: PREVIEW_BYTES,
        });
    }
    if !PREVIEW_TYPES.contains(&media_type.as_str()) {
        return Err(Error::PreviewType { asset_id, media_type });
    }
    let row = row(&asset_id, timestamp)
        .set("preview", picture)
        .set("preview_media_type", media_type);
    Ok((asset_id, row))
}

/// The core's answer to a request of this edge.
pub(crate) fn response(record: AssetResponse, timestamp: i64) -> (AssetId, Write) {
    let outcome = match record.outcome {
        Outcome::Ready => "ready",
        Outcome::Refused => "refused",
        Outcome::Cancelled => "cancelled",
    };
    let row = row(&record.asset_id, timestamp)
        .set("response", outcome)
        .set("response_reason", record.reason)
        .set("response_attempt", record.attempt)
        .set("responded_at", Value::timestamp(record.responded_at));
    (record.asset_id, row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bytes: usize, media_type: &str) -> AssetPreview {
        AssetPreview {
            asset_id: AssetId::derive("c", "1"),
            media_type: media_type.to_owned(),
            width: 1,
            height: 1,
            picture: vec![0; bytes],
        }
    }

    #[test]
    fn a_preview_is_small_and_harmless() {
        assert!(preview(picture(PREVIEW_BYTES, "image/webp"), 1).is_ok());
        let large = preview(picture(PREVIEW_BYTES + 1, "image/webp"), 1);
        assert!(matches!(large, Err(Error::PreviewTooLarge { .. })));
        // A browser would run the scripts in it.
        assert!(matches!(
            preview(picture(9, "image/svg+xml"), 1),
            Err(Error::PreviewType { .. })
        ));
    }

    #[test]
    fn rows_are_written_as_of_the_record() {
        let (_, row) = preview(picture(1, "image/png"), 7).unwrap();
        assert_eq!(row.timestamp, Some(7000));
    }
}
