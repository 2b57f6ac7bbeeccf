//! Whether a service can do its work now, check by check.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use crate::host::lock;
use crate::{Host, HostState};

const LIMIT: Duration = Duration::from_secs(5);

type Outcome = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Check = Arc<dyn Fn() -> Outcome + Send + Sync>;

#[derive(Default)]
pub(crate) struct Checks(Mutex<BTreeMap<String, Check>>);

impl Checks {
    pub(crate) fn add<F, R>(&self, name: &str, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        lock(&self.0).insert(name.to_owned(), Arc::new(move || Box::pin(check())));
    }
}

impl Debug for Checks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether the service is at work and every check passes.
    pub ready: bool,
    /// What each check says: `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
}

impl Host {
    /// Runs all checks at once.
    pub async fn readiness(&self) -> Readiness {
        let state = *self.state().borrow();
        let checks: Vec<(String, Check)> = lock(&self.checks().0)
            .iter()
            .map(|(name, check)| (name.clone(), Arc::clone(check)))
            .collect();
        let results = join_all(checks.into_iter().map(|(name, check)| async move {
            let result = tokio::time::timeout(LIMIT, check()).await;
            (
                name,
                result.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs()))),
            )
        }));
        let mut results: BTreeMap<String, Result<(), String>> = results.await.into_iter().collect();
        results.insert(
            "service".into(),
            match state {
                HostState::Running => Ok(()),
                HostState::Starting => Err("starting".into()),
                HostState::Draining => Err("draining".into()),
                HostState::Stopped => Err("stopped".into()),
                HostState::Failed => Err(self.failure().unwrap_or_default()),
            },
        );
        let ready = results.values().all(Result::is_ok);
        let text = |result: Result<(), String>| result.err().unwrap_or_else(|| "ok".into());
        Readiness {
            ready,
            checks: results
                .into_iter()
                .map(|(name, result)| (name, text(result)))
                .collect(),
        }
    }
}
