//! One asset: is it wanted, its bytes, and what its arrival leaves behind.

use common::chassis::Stop;
use common::schemas::EdgeAsset;
use common::telemetry::chain;
use common::volume::ManifestEntry;

use crate::depot::Depot;
use crate::error::{Error, Result};
use crate::lanes::Lane;
use crate::pass::Worker;
use crate::progress::Progress;
use crate::round::LOOK;
use crate::transfer::Way;

impl Worker {
    /// Mirrors one asset; ends early when it is taken back meanwhile.
    pub(crate) async fn single(
        &self,
        depot: &Depot,
        entry: &ManifestEntry,
        progress: &Progress,
        lane: Option<&Lane<'_>>,
        stop: &Stop,
    ) -> Result<()> {
        if !self.book.wants(entry).await? {
            self.unwanted(entry, progress).await;
            return Ok(());
        }
        let own = stop.child_token();
        let way = Way {
            depot,
            lane,
            stop: &own,
        };
        let bring = self.copier.bring(way, entry, progress);
        tokio::pin!(bring);
        let brought = tokio::select! {
            brought = &mut bring => brought,
            () = self.taken_back(entry) => {
                own.cancel();
                match bring.await {
                    Err(Error::Stopped) => Err(Error::Unwanted),
                    other => other,
                }
            }
        };
        match brought {
            Err(Error::Unwanted) => {
                self.unwanted(entry, progress).await;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                let facts = self.book.facts(entry).await?;
                self.arrived(entry, &facts).await
            }
        }
    }

    /// Ends when the team does not want the asset any more.
    async fn taken_back(&self, entry: &ManifestEntry) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.dropped(entry).await {
                return;
            }
        }
    }

    /// Whether the team is known not to want the asset. A table that does not answer is told by those who need it.
    pub(crate) async fn dropped(&self, entry: &ManifestEntry) -> bool {
        matches!(self.book.wants(entry).await, Ok(false))
    }

    pub(crate) async fn unwanted(&self, entry: &ManifestEntry, progress: &Progress) {
        tracing::info!(asset_id = %entry.asset_id, request_id = %entry.request_id, "not wanted any more");
        progress.unwanted(entry.size);
        self.copier.forget(entry).await;
    }

    /// Writes down that an asset is here, of which the row said `facts` a moment ago.
    pub(crate) async fn arrived(&self, entry: &ManifestEntry, facts: &EdgeAsset) -> Result<()> {
        self.book.write(entry, facts).await?;
        self.control.count("assets_mirrored", 1);
        tracing::info!(asset_id = %entry.asset_id, request_id = %entry.request_id, bytes = entry.size, "mirrored");
        Ok(())
    }

    /// Says what went wrong with an asset.
    pub(crate) fn failed(&self, entry: &ManifestEntry, error: &Error, last: bool, progress: &Progress) {
        let text = chain(error);
        tracing::error!(asset_id = %entry.asset_id, request_id = %entry.request_id, error = text, last, "asset not mirrored");
        self.control
            .error(format!("asset {} ({}): {text}", entry.asset_id, entry.file_name));
        self.control.count("tries_failed", 1);
        if last {
            progress.over();
        }
    }
}
