//! Where the core's previews lie in `ASSET_PREVIEW`, so that its pages show small pictures as an edge's do.
//!
//! The topic is compacted: it is read from its beginning at start and followed, and of each preview only its place is
//! kept. A picture is read where it lies, when somebody looks at it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use common::broker::{self, Position, Record};
use common::schemas::{self, AssetId, AssetPreview, topic};

use crate::app::App;
use crate::index::{Id, pack};
use crate::problem::Result;
use crate::tape;

/// How often a preview is looked for again that a newer one took the place of.
const ATTEMPTS: u32 = 5;

/// The places of all previews.
#[derive(Debug, Default)]
pub(crate) struct Previews {
    /// Partition and offset.
    places: RwLock<HashMap<Id, (i32, i64)>>,
}

impl Previews {
    /// Whether there is one of an asset.
    pub(crate) fn has(&self, id: &AssetId) -> bool {
        self.place(id).is_some()
    }

    fn place(&self, id: &AssetId) -> Option<(i32, i64)> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&pack(id)).copied()
    }

    /// Notes a preview; whose it is, if that is news. No more are kept than the index has assets.
    fn hear(&self, record: &Record, most: usize) -> Option<Id> {
        let key = record
            .key
            .as_deref()
            .and_then(|key| std::str::from_utf8(key).ok())?;
        let id = pack(&key.parse().ok()?);
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if record.value.is_none() {
            return places.remove(&id).map(|_| id);
        }
        if places.len() >= most && !places.contains_key(&id) {
            return None;
        }
        let before = places.insert(id, (record.partition, record.offset));
        before.is_none().then_some(id)
    }
}

/// Follows the previews from their beginning until an error.
pub(crate) async fn follow(app: &App) -> Result<(), broker::Error> {
    let mut reader = tape::from_the_beginning(&app.broker, topic::ASSET_PREVIEW).await?;
    loop {
        for record in reader.next(500, Duration::from_secs(10)).await? {
            if let Some(id) = app.previews.hear(&record, app.settings.max_assets) {
                app.index.touch(id);
            }
        }
    }
}

/// Reads an asset's preview: its media type and bytes.
pub(crate) async fn read(app: &App, id: &AssetId) -> Result<Option<(String, Vec<u8>)>> {
    for _ in 0..ATTEMPTS {
        let Some((partition, offset)) = app.previews.place(id) else {
            return Ok(None);
        };
        let position = Position::at(topic::ASSET_PREVIEW, partition, offset);
        let mut reader = app.broker.reader(&[position]).await?;
        let found = reader.next(1, Duration::from_secs(5)).await?;
        let mine = found.first().filter(|record| record.offset == offset);
        if let Some(value) = mine.and_then(|record| record.value.as_deref()) {
            let preview: AssetPreview = schemas::decode(value)?;
            return Ok(Some((preview.media_type, preview.picture)));
        }
        // A newer one took its place, which is about to be heard.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(None)
}
