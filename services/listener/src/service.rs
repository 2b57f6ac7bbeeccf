//! Listener, wired.

use std::sync::Arc;

use common::broker::{Broker, ConsumerSettings, Subscription};
use common::chassis::{Host, Service, Stop};
use common::control::Control;
use common::engines;
use common::schemas::{EDGE_TABLES, topic};

use crate::listen::Taker;
use crate::settings::Settings;

/// Fills the edge's table with what the core broadcasts and answers.
#[derive(Debug)]
pub struct Listener {
    broker: Broker,
    control: Control,
    consumer: ConsumerSettings,
    taker: Arc<Taker>,
}

impl Service for Listener {
    const NAME: &'static str = "listener";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let broker = engines::broker(host, &settings.broker).await?;
        let table = engines::table(host, &settings.table, EDGE_TABLES).await?;
        let control = Control::attach(host, &broker).await?;
        Ok(Self {
            taker: Arc::new(Taker {
                table,
                producer: broker.producer()?,
                control: control.clone(),
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
            let subscription = Subscription::topics([
                topic::ASSET_BROADCAST,
                topic::ASSET_PREVIEW,
                topic::ASSET_RESPONSE,
            ]);
            let consumer = self.broker.consumer(subscription, self.consumer.clone());
            let taker = Arc::clone(&self.taker);
            async move { Ok(consumer?.run(taker, stop).await?) }
        };
        self.control.supervise(stop, work).await
    }
}
