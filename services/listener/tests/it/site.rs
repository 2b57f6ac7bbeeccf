//! A site with a listener in it.

use std::ops::{Deref, DerefMut};

pub(crate) use fixtures::LIMIT;
use fixtures::Rig;
use listener::{Listener, Settings};

pub(crate) struct Site(Rig<Listener>);

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

    /// The same with the service at work.
    pub(crate) async fn running() -> Self {
        let mut site = Self::new().await;
        site.start();
        site
    }
}

impl Deref for Site {
    type Target = Rig<Listener>;

    fn deref(&self) -> &Rig<Listener> {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Rig<Listener> {
        &mut self.0
    }
}
