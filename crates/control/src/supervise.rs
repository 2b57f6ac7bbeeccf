//! Pausing and resuming a service's work while the service stays up.

use std::future::Future;

use broker::{Class, Classify as _};
use chassis::{Fenced, Stop};
use schemas::Desired;
use tokio::time::Instant;

use crate::control::Control;
use crate::follow::{LONGEST_PAUSE, PAUSE, rest};

impl Control {
    /// Runs `work` whenever the service should run, each time with a stop token of its own, until `stop`.
    ///
    /// Told to pause, it cancels that token and waits until the work has finished what it holds. Work that ends by
    /// itself ends the supervision, unless its error is that the broker is away: then it begins anew when that may help. An
    /// error that comes from being fenced is marked [`Fenced`].
    pub async fn supervise<F, R>(&self, stop: Stop, mut work: F) -> anyhow::Result<()>
    where
        F: FnMut(Stop) -> R + Send,
        R: Future<Output = anyhow::Result<()>> + Send,
    {
        let mut told = self.told();
        let mut pause = PAUSE;
        loop {
            if told.borrow_and_update().desired == Desired::Paused {
                self.board.paused();
            }
            match stop
                .run_until_cancelled(told.wait_for(|told| told.desired == Desired::Running))
                .await
            {
                Some(Ok(_)) => {}
                // Told to stop; or nobody is left who could tell to run, which is the same.
                Some(Err(_)) | None => return Ok(()),
            }
            self.board.running();
            let (child, began) = (stop.child_token(), Instant::now());
            let running = work(child.clone());
            tokio::pin!(running);
            let outcome = tokio::select! {
                ended = &mut running => Err(ended),
                () = stop.cancelled() => Ok(false),
                told = told.wait_for(|told| told.desired == Desired::Paused) => Ok(told.is_ok()),
            };
            let paused = match outcome {
                Ok(paused) => paused,
                Err(Err(error)) if is_away(&error) => {
                    let text = telemetry::chain(error.as_ref());
                    tracing::warn!(error = text, "the work begins anew when the broker is back");
                    self.waiting(&*text);
                    self.error(text);
                    if began.elapsed() > LONGEST_PAUSE {
                        pause = PAUSE;
                    }
                    if !rest(&stop, &mut pause).await {
                        return Ok(());
                    }
                    continue;
                }
                Err(ended) => return ended.map_err(mark),
            };
            self.board.draining();
            child.cancel();
            running.await.map_err(mark)?;
            if !paused {
                return Ok(());
            }
            tracing::info!("paused");
        }
    }
}

/// Whether a broker did not answer, or not in time, which passes.
fn is_away(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<broker::Error>());
    causes.next().is_some_and(|cause| cause.class() == Class::Retry)
}

fn mark(error: anyhow::Error) -> anyhow::Error {
    let fenced = |cause: &(dyn std::error::Error + 'static)| {
        matches!(
            cause.downcast_ref::<broker::Error>(),
            Some(broker::Error::Fenced { .. })
        )
    };
    if error.chain().any(fenced) {
        error.context(Fenced)
    } else {
        error
    }
}
