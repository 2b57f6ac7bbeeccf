//! The task that pays bills when their time has come, looks at the calendar, and keeps what was counted.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::budget::Inner;

/// How often windows, days and months are looked at: a change takes effect within this.
const LOOK: Duration = Duration::from_millis(500);
/// How often the file is written, while bytes cross.
const KEEP: Duration = Duration::from_secs(5);

/// Ends with the budget.
pub(crate) async fn run(inner: Weak<Inner>, work: Arc<Notify>) {
    let (mut looked_at, mut kept_at) = (Instant::now(), Instant::now());
    loop {
        let Some(budget) = inner.upgrade() else { return };
        let look = looked_at.elapsed() >= LOOK;
        let wait = budget.tick(look);
        if look {
            looked_at = Instant::now();
        }
        if kept_at.elapsed() >= KEEP {
            kept_at = Instant::now();
            keep(&budget).await;
        }
        drop(budget);
        let wait = wait.unwrap_or(LOOK).min(LOOK);
        tokio::select! {
            () = sleep(wait) => {}
            () = work.notified() => {}
        }
    }
}

async fn keep(budget: &Inner) {
    let Some((ledger, path)) = budget.unkept() else {
        return;
    };
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || ledger.write(&path).map(|()| ledger)).await;
    match written {
        Ok(Ok(ledger)) => budget.kept(ledger),
        Ok(Err(error)) => tracing::error!(path = shown, %error, "cannot keep what was spent"),
        // The runtime ends; what is left is written when the budget is dropped.
        Err(_) => {}
    }
}
