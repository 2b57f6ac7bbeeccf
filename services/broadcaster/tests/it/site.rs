//! A site with a broadcaster in it.

use std::ops::{Deref, DerefMut};

use broadcaster::{Broadcaster, Settings};
pub(crate) use fixtures::LIMIT;
use fixtures::Rig;

pub(crate) struct Site(Rig<Broadcaster>);

impl Site {
    /// A site with its topics and tables made, and nothing at work.
    pub(crate) async fn new() -> Self {
        let site = fixtures::Site::core().await;
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
    type Target = Rig<Broadcaster>;

    fn deref(&self) -> &Rig<Broadcaster> {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Rig<Broadcaster> {
        &mut self.0
    }
}
