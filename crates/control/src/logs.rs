//! Passing a service's last log lines on to its site, so that they can be read where nobody reads its output.
//!
//! Every two seconds at most, and only when a line was added. Best effort: a broker that is away, or a site whose topic
//! is not made yet, costs a few lines that nobody sees, and no word of that. What is logged while lines are passed on is
//! no reason to pass on more, or a service at level debug would never fall silent.

use std::time::Duration;

use broker::{Outgoing, Producer};
use chassis::{Host, now_ms};
use schemas::{LogLine, ServiceLog, topic};
use telemetry::{Line, Tail};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use crate::report::end_of;

/// How far apart what is passed on is.
const APART: Duration = Duration::from_secs(2);
/// How long one rests after a failure.
const REST: Duration = Duration::from_secs(30);
const SEND_LIMIT: Duration = Duration::from_secs(10);
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// Passes lines on until the host has ended, the last ones too.
pub(crate) async fn run(host: Host, producer: Producer) -> anyhow::Result<()> {
    let mut count = 0;
    let mut failed = false;
    loop {
        let ended = tokio::select! {
            () = sleep(if failed { REST } else { APART }) => false,
            () = end_of(&host) => true,
        };
        // One that is away keeps nobody from ending.
        if ended && failed {
            return Ok(());
        }
        if let Some(tail) = host.telemetry().tail(host.site(), host.service(), count) {
            count = tail.count;
            let sent = timeout(
                if ended { LAST_LIMIT } else { SEND_LIMIT },
                send(&host, &producer, tail).instrument(telemetry::untold()),
            );
            failed = !sent.await.unwrap_or(false);
            if failed {
                count = 0;
            }
        }
        if ended {
            return Ok(());
        }
    }
}

async fn send(host: &Host, producer: &Producer, tail: Tail) -> bool {
    let log = ServiceLog {
        service: host.service().into(),
        instance: host.instance().into(),
        as_of: now_ms(),
        lines: tail.lines.iter().map(|line| told(line)).collect(),
    };
    let key = format!("{}/{}", log.service, log.instance);
    let Ok(value) = schemas::encode(&log) else {
        return false;
    };
    let sent = producer.send(Outgoing::new(topic::SERVICE_LOG, key, value)).await;
    if let Err(error) = &sent {
        tracing::debug!(error = telemetry::chain(error), "log lines are not passed on");
    }
    sent.is_ok()
}

fn told(line: &Line) -> LogLine {
    let fields: serde_json::Map<_, _> = serde_json::from_str(&line.fields).unwrap_or_default();
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    LogLine {
        at: line.at,
        level: line.level.into(),
        target: line.target.into(),
        message: line.message.to_string(),
        fields: fields
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect(),
    }
}
