//! Pausing and resuming a service's work while the service stays up.

use std::future::Future;

use chassis::{Fenced, Stop};
use schemas::Desired;

use crate::control::Control;

impl Control {
    /// Runs `work` whenever the service should run, each time with a stop token of its own, until `stop`.
    ///
    /// Told to pause, it cancels that token and waits until the work has finished what it holds. Work that ends by
    /// itself ends the supervision. An error that comes from being fenced is marked [`Fenced`].
    pub async fn supervise<F, R>(&self, stop: Stop, mut work: F) -> anyhow::Result<()>
    where
        F: FnMut(Stop) -> R + Send,
        R: Future<Output = anyhow::Result<()>> + Send,
    {
        let mut told = self.told();
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
            let child = stop.child_token();
            let running = work(child.clone());
            tokio::pin!(running);
            let paused = tokio::select! {
                ended = &mut running => return ended.map_err(mark),
                () = stop.cancelled() => false,
                told = told.wait_for(|told| told.desired == Desired::Paused) => told.is_ok(),
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
