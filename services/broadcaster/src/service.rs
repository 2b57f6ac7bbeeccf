//! Broadcaster, wired.

use std::sync::Arc;

use common::broker::{Broker, ConsumerSettings, Subscription};
use common::chassis::{Host, Service, Stop};
use common::control::Control;
use common::engines;
use common::schemas::{CORE_TABLES, topic};

use crate::publish::Publisher;
use crate::settings::Settings;

/// Tells every edge of downloaded assets, and takes withdrawn ones back.
#[derive(Debug)]
pub struct Broadcaster {
    broker: Broker,
    control: Control,
    consumer: ConsumerSettings,
    publisher: Arc<Publisher>,
}

impl Service for Broadcaster {
    const NAME: &'static str = "broadcaster";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let broker = engines::broker(host, &settings.broker).await?;
        let table = engines::table(host, &settings.table, CORE_TABLES).await?;
        let control = Control::attach(host, &broker).await?;
        Ok(Self {
            publisher: Arc::new(Publisher {
                table,
                producer: broker.producer()?,
                control: control.clone(),
                expires_after: settings.expires_after,
            }),
            consumer: ConsumerSettings {
                instance: Some(host.instance().to_owned()),
                in_flight: settings.in_flight,
                ..ConsumerSettings::group(format!("{}.{}", host.site(), Self::NAME))
            },
            broker,
            control,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let work = |stop| {
            let subscription = Subscription::topics([topic::ASSET_PIPELINE]);
            let consumer = self.broker.consumer(subscription, self.consumer.clone());
            let publisher = Arc::clone(&self.publisher);
            async move { Ok(consumer?.run(publisher, stop).await?) }
        };
        self.control.supervise(stop, work).await
    }
}
