//! A core with one feed at a time.

use std::ops::Deref;

use common::schemas::{Asset, AssetState, topic};
use feed::{Feed, Settings};
use fixtures::{LIMIT, Running};
use testkit::eventually;

pub(crate) struct Site(fixtures::Site);

impl Site {
    pub(crate) async fn new() -> Self {
        Self(fixtures::Site::core().await)
    }

    /// Settings that announce fast.
    pub(crate) fn feed(&self, catalogue: impl Into<String>) -> Settings {
        Settings {
            broker: self.broker_settings.clone(),
            catalogue: catalogue.into(),
            interval: "5ms".parse().unwrap(),
            batch: 10,
            ..Settings::default()
        }
    }

    pub(crate) fn start(&self, settings: Settings) -> Running {
        self.0.start::<Feed>(settings)
    }

    /// All records of the pipeline.
    pub(crate) async fn pipeline(&self) -> Vec<Asset> {
        self.records(topic::ASSET_PIPELINE).await
    }

    pub(crate) async fn announced(&self, count: usize) -> Vec<Asset> {
        eventually(LIMIT, async || {
            let assets = self.pipeline().await;
            if assets.len() < count {
                Err(format!("{} of {count} announced", assets.len()))
            } else {
                Ok(assets)
            }
        })
        .await
        .into_iter()
        .inspect(|asset| assert_eq!(asset.state, AssetState::Announced))
        .collect()
    }
}

impl Deref for Site {
    type Target = fixtures::Site;

    fn deref(&self) -> &fixtures::Site {
        &self.0
    }
}
