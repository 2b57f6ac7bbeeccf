//! The smallest whole service: it counts ticks until it is told to stop, and can be told to fail in several ways.

use std::process::ExitCode;

use chassis::{Fenced, Host, Service, Settings, Span, Stop};
use serde::{Deserialize, Serialize};

/// What can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PulseSettings {
    /// Time between ticks.
    interval: Span,
    /// How to end: stop, fail, panic, task, fenced or hang.
    end: String,
}

impl Default for PulseSettings {
    fn default() -> Self {
        Self {
            interval: Span::millis(20),
            end: "stop".into(),
        }
    }
}

impl Settings for PulseSettings {
    fn validate(&self) -> Result<(), Vec<String>> {
        if self.interval.is_zero() {
            return Err(vec!["interval: must not be zero".into()]);
        }
        Ok(())
    }
}

struct Pulse {
    settings: PulseSettings,
    host: Host,
    ticks: prometheus::IntCounter,
}

impl Service for Pulse {
    const NAME: &'static str = "pulse";
    type Settings = PulseSettings;

    async fn build(settings: PulseSettings, host: &Host) -> anyhow::Result<Self> {
        let ticks = prometheus::IntCounter::new("pulse_ticks_total", "ticks since the start")?;
        host.registry().register(Box::new(ticks.clone()))?;
        Ok(Self {
            settings,
            host: host.clone(),
            ticks,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        while stop
            .run_until_cancelled(tokio::time::sleep(*self.settings.interval))
            .await
            .is_some()
        {
            self.ticks.inc();
            match self.settings.end.as_str() {
                "fail" => anyhow::bail!("the pulse failed"),
                "panic" => panic!("the pulse panicked"),
                "task" => self
                    .host
                    .spawn("beat", async { anyhow::bail!("the beat failed") }),
                "fenced" => return Err(anyhow::anyhow!("taken over").context(Fenced)),
                _ => {}
            }
        }
        if self.settings.end == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    chassis::main::<Pulse>()
}
