//! Waiting for what comes in its own time.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Asks again and again until the answer is `Ok`, and returns what it holds.
///
/// # Panics
/// When `limit` has passed, with the last reason, or with that the question was never answered.
pub async fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    let mut last = None;
    while let Ok(answer) = timeout_at(end, ask()).await {
        match answer {
            Ok(value) => return value,
            Err(reason) => last = Some(reason.to_string()),
        }
        if Instant::now() >= end {
            break;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    panic!(
        "not within {limit:?}: {}",
        last.unwrap_or_else(|| "no answer at all".into())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn condition_is_asked_until_it_holds() {
        let mut count = 0;
        let value = eventually(Duration::from_secs(5), || {
            count += 1;
            let answer = if count < 3 {
                Err(format!("only {count}"))
            } else {
                Ok(count)
            };
            async move { answer }
        });
        assert_eq!(value.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "still nothing")]
    async fn last_reason_is_told() {
        eventually(Duration::from_millis(20), || async {
            Err::<(), _>("still nothing")
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "no answer at all")]
    async fn question_that_hangs_is_told() {
        eventually(
            Duration::from_millis(20),
            std::future::pending::<Result<(), String>>,
        )
        .await;
    }
}
