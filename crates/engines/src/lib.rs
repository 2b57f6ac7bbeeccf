//! The engines of a service's site, opened: each under the service's name, and with its check in `/readyz`.
//!
//! Opening refuses what can never work. An engine that is away for a while is seen in its check.

use broker::Broker;
use chassis::Host;
use schemas::Migration;
use table::Session;
use telemetry::chain;
use volume::Volume;

/// Opens the site's broker.
pub async fn broker(host: &Host, settings: &broker::Settings) -> anyhow::Result<Broker> {
    let broker = Broker::open(settings, host.service(), host.registry()).await?;
    let checked = broker.clone();
    host.check("broker", move || {
        let broker = checked.clone();
        async move { broker.ping().await.map_err(|error| chain(&error)) }
    });
    Ok(broker)
}

/// Opens the site's tables; fails when one of `migrations` is not applied.
pub async fn table(
    host: &Host,
    settings: &table::Settings,
    migrations: &[Migration],
) -> anyhow::Result<Session> {
    let table = Session::open(settings, host.service(), host.registry()).await?;
    table.prepare(migrations).await?;
    let checked = table.clone();
    host.check("table", move || {
        let table = checked.clone();
        async move { table.ping().await.map_err(|error| chain(&error)) }
    });
    Ok(table)
}

/// Opens the site's volume.
pub async fn volume(host: &Host, settings: &volume::Settings) -> anyhow::Result<Volume> {
    let volume = Volume::open(settings).await?;
    let checked = volume.clone();
    host.check("volume", move || {
        let volume = checked.clone();
        async move { volume.ping().await.map_err(|error| chain(&error)) }
    });
    Ok(volume)
}
