//! Responder, wired.

use std::sync::Arc;

use common::broker::{Broker, ConsumerSettings, Subscription};
use common::chassis::{Host, Service, Stop};
use common::control::Control;
use common::engines;
use common::schemas::{CORE_TABLES, topic};

use crate::desk::Desk;
use crate::settings::Settings;

/// Answers what sites ask for, takes their receipts, and ends what is withdrawn.
#[derive(Debug)]
pub struct Responder {
    broker: Broker,
    control: Control,
    consumer: ConsumerSettings,
    desk: Arc<Desk>,
}

impl Service for Responder {
    const NAME: &'static str = "responder";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let broker = engines::broker(host, &settings.broker).await?;
        let table = engines::table(host, &settings.table, CORE_TABLES).await?;
        let volume = engines::volume(host, &settings.volume).await?;
        let control = Control::attach(host, &broker).await?;
        Ok(Self {
            consumer: ConsumerSettings {
                instance: Some(host.instance().to_owned()),
                in_flight: settings.in_flight,
                ..ConsumerSettings::group(format!("{}.{}", host.site(), Self::NAME))
            },
            desk: Arc::new(Desk {
                table,
                volume,
                producer: broker.producer()?,
                control: control.clone(),
                settings,
            }),
            broker,
            control,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let work = |stop| {
            let subscription = Subscription {
                topics: vec![topic::ASSET_BROADCAST.to_owned()],
                suffixes: [topic::ASSET_REQUEST, topic::ASSET_RECEIPT]
                    .map(|name| format!(".{name}"))
                    .to_vec(),
            };
            let consumer = self.broker.consumer(subscription, self.consumer.clone());
            let desk = Arc::clone(&self.desk);
            async move { Ok(consumer?.run(desk, stop).await?) }
        };
        self.control.supervise(stop, work).await
    }
}
