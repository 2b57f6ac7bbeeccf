//! A site with a responder in it.

use std::ops::{Deref, DerefMut};

pub(crate) use fixtures::LIMIT;
use fixtures::Rig;
use responder::{Responder, Settings};

pub(crate) struct Site(Rig<Responder>);

impl Site {
    /// A site with its topics and tables made, and nothing at work.
    pub(crate) async fn new() -> Self {
        let site = fixtures::Site::core().await;
        Self(Rig::new(site, |site| Settings {
            broker: site.broker_settings.clone(),
            table: site.table_settings.clone(),
            volume: site.volume_settings.clone(),
            ..Settings::default()
        }))
    }
}

impl Deref for Site {
    type Target = Rig<Responder>;

    fn deref(&self) -> &Rig<Responder> {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Rig<Responder> {
        &mut self.0
    }
}
