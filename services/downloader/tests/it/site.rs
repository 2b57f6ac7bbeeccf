//! A core with one downloader at a time.

use std::net::SocketAddr;
use std::ops::Deref;

use common::broker;
use common::schemas::{Asset, AssetId, AssetPreview, AssetState, decode, topic};
use downloader::{Downloader, Settings};
use fixtures::{LIMIT, Running};
use testkit::eventually;

pub(crate) struct Site {
    site: fixtures::Site,
    settings: Settings,
}

impl Site {
    /// A site whose downloader may reach `server`, takes at most a mebibyte, and does not wait long.
    pub(crate) async fn new(server: SocketAddr) -> Self {
        let site = fixtures::Site::core().await;
        let settings = Settings {
            broker: site.broker_settings.clone(),
            volume: site.volume_settings.clone(),
            allow: vec![server.to_string()],
            max_bytes: "1MiB".parse().unwrap(),
            attempts: 3,
            backoff: "10ms".parse().unwrap(),
            idle_timeout: "5s".parse().unwrap(),
            ..Settings::default()
        };
        Self { site, settings }
    }

    pub(crate) fn start(&self) -> Running {
        self.site.start::<Downloader>(self.settings.clone())
    }

    /// Announces entry `number` with a link.
    pub(crate) async fn announce(&self, number: u32, link: impl AsRef<str>) -> AssetId {
        let asset = testkit::announced(number, link.as_ref());
        self.announces(&asset).await;
        asset.asset_id
    }

    pub(crate) async fn announces(&self, asset: &Asset) {
        self.send(topic::ASSET_PIPELINE, &asset.asset_id, asset).await;
    }

    /// All outcomes of an asset so far.
    pub(crate) async fn outcomes(&self, asset_id: &AssetId) -> Vec<Asset> {
        let mut found = Vec::new();
        let visit = |record: broker::Record| {
            let asset = record.value.and_then(|value| decode::<Asset>(&value).ok());
            found.extend(
                asset.filter(|asset| asset.asset_id == *asset_id && asset.state != AssetState::Announced),
            );
        };
        self.broker
            .read_to_end(topic::ASSET_PIPELINE, visit)
            .await
            .unwrap();
        found
    }

    pub(crate) async fn outcome(&self, asset_id: &AssetId) -> Asset {
        eventually(LIMIT, async || {
            self.outcomes(asset_id)
                .await
                .pop()
                .ok_or_else(|| format!("no outcome of {asset_id}"))
        })
        .await
    }

    pub(crate) async fn downloaded(&self, asset_id: &AssetId) -> Asset {
        let asset = self.outcome(asset_id).await;
        assert_eq!((asset.state, &asset.reason), (AssetState::Downloaded, &None));
        asset
    }

    pub(crate) async fn failed(&self, asset_id: &AssetId) -> String {
        let asset = self.outcome(asset_id).await;
        assert_eq!((asset.state, asset.hash), (AssetState::Failed, None));
        asset.reason.unwrap()
    }

    pub(crate) async fn preview(&self, asset_id: &AssetId) -> Option<AssetPreview> {
        let previews = self.records::<AssetPreview>(topic::ASSET_PREVIEW).await;
        previews
            .into_iter()
            .rfind(|preview| preview.asset_id == *asset_id)
    }

    /// What is in the volume under the asset's hash.
    pub(crate) async fn bytes(&self, asset: &Asset) -> Vec<u8> {
        let (hash, size) = (
            asset.hash.as_ref().unwrap(),
            u64::try_from(asset.size.unwrap()).unwrap(),
        );
        assert_eq!(self.volume.stat(hash).await.unwrap(), Some(size));
        self.volume.read(hash, 0..size).await.unwrap().to_vec()
    }

    /// Files that are not whole yet.
    pub(crate) fn staged(&self) -> usize {
        let staging = self.directory.path().join("volume/staging");
        std::fs::read_dir(staging).map_or(0, |files| {
            files
                .filter(|file| {
                    file.as_ref()
                        .is_ok_and(|file| file.metadata().is_ok_and(|data| data.len() > 0))
                })
                .count()
        })
    }
}

impl Deref for Site {
    type Target = fixtures::Site;

    fn deref(&self) -> &fixtures::Site {
        &self.site
    }
}
