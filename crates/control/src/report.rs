//! Reports to the site: on every change, and every few seconds so that silence means something.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Outgoing};
use chassis::{Host, HostState};
use schemas::topic;
use tokio::time::{sleep, timeout};

use crate::board::Board;

/// How often a service reports when nothing changes.
const EVERY: Duration = Duration::from_secs(5);
/// How soon a report may follow another: changes in between go into one.
const APART: Duration = Duration::from_millis(200);
const SEND_LIMIT: Duration = Duration::from_secs(10);
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// The figure of a status that says how many records a service's consumers are behind.
const LAG: &str = "lag_records";

/// Reports until the host has ended; its end is the last report. One report is on its way at a time, so what waits is
/// never older than what is sent next.
pub(crate) async fn run(host: Host, broker: Broker, board: Arc<Board>) -> anyhow::Result<()> {
    let mut state = host.state();
    let mut changes = board.changes();
    let mut away = false;
    loop {
        let ended = matches!(*state.borrow_and_update(), HostState::Stopped | HostState::Failed);
        changes.mark_unchanged();
        let sent = timeout(if ended { LAST_LIMIT } else { SEND_LIMIT }, send(&broker, &board));
        let failure = tokio::select! {
            sent = sent => match sent {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some("no answer in time".into()),
            },
            // The end is what matters now; the report that was on its way says less.
            () = end_of(&host), if !ended => continue,
        };
        match &failure {
            Some(error) if !away => tracing::warn!(error, "status cannot be reported"),
            None if away => tracing::info!("status is reported again"),
            _ => {}
        }
        away = failure.is_some();
        if ended {
            return Ok(());
        }
        tokio::select! {
            () = async {
                sleep(APART).await;
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = state.changed() => {}
                    () = sleep(EVERY - APART) => {}
                }
            } => {}
            () = end_of(&host) => {}
        }
    }
}

/// Waits until the host has stopped or failed.
pub(crate) async fn end_of(host: &Host) {
    let ended = |state: &HostState| matches!(state, HostState::Stopped | HostState::Failed);
    // Its sender lives as long as the host.
    drop(host.state().wait_for(ended).await);
}

async fn send(broker: &Broker, board: &Board) -> Result<(), String> {
    let mut status = board.status();
    let lag = broker.consumer_lag().map(|lag| (LAG.to_owned(), lag));
    status.gauges.extend(lag);
    let value = schemas::encode(&status).map_err(|error| telemetry::chain(&error))?;
    let key = format!("{}/{}", status.service, status.instance);
    let record = Outgoing::new(topic::SERVICE_STATUS, key, value);
    let sent = async { broker.producer()?.send(record).await };
    sent.await.map(drop).map_err(|error| telemetry::chain(&error))
}
