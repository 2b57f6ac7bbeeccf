//! Which faults may pass, and waiting for them to.
//!
//! The driver retries at once or not at all; while a node restarts it answers "no connections in the pool" without a
//! pause. So the pause is made here, around operations that are all idempotent.

use std::time::Duration;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind as Setup, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};
use tokio::time::Instant;

use crate::error::Source;

/// The pauses between attempts.
const PAUSES: [u64; 4] = [100, 250, 500, 1000];

/// A failed request.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) transient: bool,
    pub(super) source: Source,
}

impl From<ExecutionError> for Fault {
    fn from(error: ExecutionError) -> Self {
        let transient = match &error {
            ExecutionError::EmptyPlan
            | ExecutionError::ConnectionPoolError(_)
            | ExecutionError::RequestTimeout(_)
            | ExecutionError::SchemaAgreementError(_)
            | ExecutionError::MetadataError(_) => true,
            ExecutionError::PrepareError(error) => unprepared(error),
            ExecutionError::LastAttemptError(error) => attempt(error),
            _ => false,
        };
        Self {
            transient,
            source: error.into(),
        }
    }
}

impl From<PrepareError> for Fault {
    fn from(error: PrepareError) -> Self {
        Self {
            transient: unprepared(&error),
            source: error.into(),
        }
    }
}

fn unprepared(error: &PrepareError) -> bool {
    match error {
        PrepareError::ConnectionPoolError(_) => true,
        PrepareError::AllAttemptsFailed { first_attempt } => attempt(first_attempt),
        _ => false,
    }
}

fn attempt(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::BrokenConnectionError(_) | RequestAttemptError::UnableToAllocStreamId => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::Unavailable { .. }
                | DbError::Overloaded
                | DbError::IsBootstrapping
                | DbError::ReadTimeout { .. }
                | DbError::WriteTimeout { .. }
                | DbError::ReadFailure { .. }
                | DbError::WriteFailure { .. }
                | DbError::ServerError
                | DbError::RateLimitReached { .. }
        ),
        _ => false,
    }
}

/// Whether a node answered that it does not let us in: waiting does not help.
pub(super) fn refused(error: &NewSessionError) -> bool {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(error),
    })) = error
    else {
        return false;
    };
    matches!(
        error.error,
        Setup::MissingAuthentication
            | Setup::DbError(DbError::AuthenticationError | DbError::Unauthorized, _)
    )
}

/// Tries an idempotent request again while its fault may pass: a few times, each for at most `limit`, and no more once
/// twice that is over.
pub(super) async fn patiently<T, F>(limit: Duration, mut work: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    // The driver limits requests, but not preparing one: a frozen node would hold it for a minute.
    let mut attempt = async || match tokio::time::timeout(limit, work()).await {
        Ok(outcome) => outcome,
        Err(elapsed) => Err(Fault {
            transient: true,
            source: elapsed.into(),
        }),
    };
    let deadline = Instant::now() + 2 * limit;
    for pause in PAUSES {
        match attempt().await {
            Err(fault) if fault.transient && Instant::now() < deadline => {
                tracing::debug!(error = %fault.source, "cassandra request is tried again");
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            other => return other,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn timeout() -> Fault {
        ExecutionError::RequestTimeout(Duration::from_secs(1)).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_may_pass_is_tried_again_and_one_that_will_not_is_not() {
        let tried = Cell::new(0);
        let passes = patiently(Duration::from_secs(10), || async {
            tried.set(tried.get() + 1);
            if tried.get() < 3 {
                Err(timeout())
            } else {
                Ok(tried.get())
            }
        });
        assert_eq!(passes.await.unwrap(), 3);
        tried.set(0);
        let stays = patiently(Duration::from_secs(10), || async {
            tried.set(tried.get() + 1);
            let error = RequestAttemptError::DbError(DbError::Invalid, String::new());
            Err::<(), _>(Fault::from(ExecutionError::LastAttemptError(error)))
        });
        assert!(!stays.await.unwrap_err().transient);
        assert_eq!(tried.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let started = Instant::now();
        let fault = patiently(Duration::from_secs(10), || async { Err::<(), _>(timeout()) })
            .await
            .unwrap_err();
        assert!(fault.transient && started.elapsed() < Duration::from_secs(3));
        let frozen = patiently(Duration::from_secs(10), std::future::pending::<Result<(), Fault>>).await;
        assert!(frozen.unwrap_err().transient && started.elapsed() < Duration::from_secs(25));
    }
}
