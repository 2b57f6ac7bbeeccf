//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::settings::Settings;

/// The wait after a number of failed attempts: doubling, with jitter so that many assets of one server do not come back
/// at once, never shorter than what the server asked for, never longer than `backoff_max`.
pub(crate) fn wait(settings: &Settings, failed: u32, asked: Option<Duration>) -> Duration {
    let doubled = settings
        .backoff
        .saturating_mul(1 << (failed.saturating_sub(1)).min(16));
    let most = doubled.min(*settings.backoff_max);
    let jittered = most.mul_f64(rand::random_range(0.5..=1.0));
    jittered.max(asked.unwrap_or_default()).min(*settings.backoff_max)
}

/// What Retry-After says: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_within_its_bounds() {
        let settings = Settings::default();
        for (failed, most) in [(1, 500), (2, 1000), (3, 2000), (20, 60_000), (u32::MAX, 60_000)] {
            let wait = wait(&settings, failed, None);
            let most = Duration::from_millis(most);
            assert!(wait <= most && wait >= most / 2, "{failed}: {wait:?}");
        }
    }

    #[test]
    fn server_may_ask_for_longer_but_not_for_ever() {
        let settings = Settings::default();
        assert_eq!(
            wait(&settings, 1, Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        assert_eq!(
            wait(&settings, 1, Some(Duration::from_secs(86_400))),
            *settings.backoff_max
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |text: &str| HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&headers("120")), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        assert!(retry_after(&headers(&date)).unwrap() > Duration::from_secs(80));
        assert_eq!(retry_after(&headers("soon")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
