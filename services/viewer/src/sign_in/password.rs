//! Passwords: Argon2id with 19 MiB and two passes, one at a time, so that nobody can fill the memory by signing in.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::problem::{Problem, Result};

/// The shortest password, in letters.
const SHORTEST: usize = 10;
/// The longest, in bytes.
const LONGEST: usize = 500;
/// How many callers may wait for their turn.
const WAITING: usize = 16;

/// Hashes passwords and compares them.
#[derive(Debug)]
pub(crate) struct Passwords {
    one: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            one: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }
}

/// Refuses passwords that are too short to be safe.
pub(crate) fn check(password: &str) -> Result<()> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(Problem::bad_request(format!(
            "password must have at least {SHORTEST} letters, and at most {LONGEST} bytes"
        )));
    }
    Ok(())
}

impl Passwords {
    /// What is kept of a password, as a PHC string.
    pub(crate) async fn hash(&self, password: &str) -> Result<String> {
        let password = password.to_owned();
        self.work(move || hash(&password)).await?.ok_or_else(failed)
    }

    /// Whether this is the password. Without one to compare with it takes as long, and says no.
    pub(crate) async fn verify(&self, password: &str, kept: Option<&str>) -> Result<bool> {
        let (password, kept) = (password.to_owned(), kept.map(str::to_owned));
        self.work(move || match kept {
            Some(kept) => PasswordHash::new(&kept).is_ok_and(|kept| {
                Argon2::default()
                    .verify_password(password.as_bytes(), &kept)
                    .is_ok()
            }),
            None => {
                drop(hash(&password));
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many people are signing in")
                .hint("try again in a moment")
                .retry_after(5)
        };
        let _waiting = self.waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = self.one.clone().acquire_owned().await.map_err(|_| busy())?;
        // The turn goes with the work, which goes on when its caller has left.
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| failed())
    }
}

fn hash(password: &str) -> Option<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
    let hash = argon2.hash_password(password.as_bytes()).ok()?;
    Some(hash.to_string())
}

fn failed() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the password could not be worked on",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_fits_what_is_kept_of_it() {
        let passwords = Passwords::default();
        let kept = passwords.hash("correct horse").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(passwords.verify("correct horse", Some(&kept)).await.unwrap());
        assert!(!passwords.verify("correct house", Some(&kept)).await.unwrap());
        assert!(!passwords.verify("correct horse", None).await.unwrap());
        assert!(!passwords.verify("correct horse", Some("nonsense")).await.unwrap());
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(check("nine chars").is_ok());
        assert!(check("ten minus").is_err());
        assert!(check(&"x".repeat(501)).is_err());
    }
}
