//! Requester, wired.

use std::sync::Arc;

use anyhow::Context as _;
use common::broker::{Broker, Class, Classify as _, ConsumerSettings, StartWithout, Subscription};
use common::chassis::{Host, Service, Span, Stop};
use common::control::Control;
use common::schemas::{EDGE_TABLES, topic};
use common::{engines, telemetry};
use tokio::sync::Notify;

use crate::error::Error;
use crate::pending::Publisher;
use crate::settings::Settings;
use crate::wake::Alarm;

/// Publishes what the team asked for.
#[derive(Debug)]
pub struct Requester {
    broker: Broker,
    control: Control,
    consumer: ConsumerSettings,
    publisher: Arc<Publisher>,
    poll: Span,
}

impl Service for Requester {
    const NAME: &'static str = "requester";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let site = host.site().parse().map_err(|source| Error::Site {
            site: host.site().to_owned(),
            source,
        })?;
        let broker = engines::broker(host, &settings.broker).await?;
        let table = engines::table(host, &settings.table, EDGE_TABLES).await?;
        let control = Control::attach(host, &broker).await?;
        Ok(Self {
            publisher: Arc::new(Publisher {
                site,
                table,
                producer: broker.producer()?,
                control: control.clone(),
            }),
            consumer: ConsumerSettings {
                instance: Some(host.instance().to_owned()),
                // What changed before this start is found by the first look.
                from: StartWithout::End,
                ..ConsumerSettings::group(format!("{}.{}", host.site(), Self::NAME))
            },
            broker,
            control,
            poll: settings.poll,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let work = |stop: Stop| {
            let bell = Arc::new(Notify::new());
            let alarm = Arc::new(Alarm {
                bell: Arc::clone(&bell),
            });
            let subscription = Subscription::topics([topic::ASSET_CHANGES]);
            let consumer = self.broker.consumer(subscription, self.consumer.clone());
            let look = self.look(bell, stop.clone());
            async move {
                let wake = async {
                    consumer?
                        .run(alarm, stop)
                        .await
                        .context("cannot be woken by asset-changes")
                };
                tokio::try_join!(wake, look)?;
                Ok(())
            }
        };
        self.control.supervise(stop, work).await
    }
}

impl Requester {
    /// Looks at the pending requests at the start, whenever it is woken, and now and then.
    async fn look(&self, bell: Arc<Notify>, stop: Stop) -> anyhow::Result<()> {
        loop {
            match self.publisher.publish_all().await {
                Ok(0) => self.control.running(),
                Ok(published) => {
                    self.control.running();
                    tracing::debug!(published, "requests published");
                }
                // The pending rows stay, so the next look is the next attempt.
                Err(error) if error.class() == Class::Retry => {
                    let text = telemetry::chain(&error);
                    tracing::warn!(error = %text, "pending requests not published");
                    self.control.waiting(&text);
                    self.control.error(text);
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = bell.notified() => {}
                () = tokio::time::sleep(*self.poll) => {}
            }
        }
    }
}
