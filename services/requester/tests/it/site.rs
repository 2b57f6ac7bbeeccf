//! A site with a requester in it.

use std::ops::{Deref, DerefMut};

pub(crate) use fixtures::LIMIT;
use fixtures::Rig;
use requester::{Requester, Settings};

pub(crate) struct Site(Rig<Requester>);

impl Site {
    /// A site with its topics and tables made, and nothing at work.
    pub(crate) async fn new() -> Self {
        let site = fixtures::Site::edge().await;
        Self(Rig::new(site, |site| Settings {
            broker: site.broker_settings.clone(),
            table: site.table_settings.clone(),
            ..Settings::default()
        }))
    }
}

impl Deref for Site {
    type Target = Rig<Requester>;

    fn deref(&self) -> &Rig<Requester> {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Rig<Requester> {
        &mut self.0
    }
}
