//! Sessions: rows of table `sessions` with a TTL, so that they outlive a restart, and a short memory of those in use.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::chassis::now_ms;
use common::table::{self, Row, Value, Write};

use super::role::Role;
use super::{Ticket, secret, users};
use crate::app::App;
use crate::problem::Result;

/// How long a session lasts.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
const LIFETIME_MS: i64 = 12 * 3600 * 1000;
/// For how long a session is believed without a look at the table: as long another process's change may go unseen.
const BELIEVED: Duration = Duration::from_secs(2);
const MOST: usize = 1024;

/// Somebody who has signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) digest: String,
    pub(crate) user: String,
    pub(crate) role: Role,
    /// Whether the name was one of table `users`, which it then must still be.
    pub(crate) local: bool,
    created_at: i64,
}

/// The sessions that were looked up last.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: Mutex<HashMap<String, (Session, Instant)>>,
}

impl Sessions {
    fn recall(&self, digest: &str) -> Option<Session> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, at) = known.get(digest)?;
        (at.elapsed() < BELIEVED).then(|| session.clone())
    }

    fn remember(&self, session: &Session) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (_, at)| at.elapsed() < BELIEVED);
        }
        if known.len() < MOST {
            known.insert(session.digest.clone(), (session.clone(), Instant::now()));
        }
    }

    /// Looks at the table again for every session.
    pub(crate) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn read(digest: &str, row: &Row) -> Option<Session> {
    Some(Session {
        digest: digest.to_owned(),
        user: row.text("user_name")?.to_owned(),
        role: Role::parse(row.text("role")?)?,
        local: row.boolean("local")?,
        created_at: row.timestamp("created_at")?,
    })
}

/// Begins a session later than `after`, as a change of its user; returns what the browser is to hold.
pub(crate) async fn begin(app: &App, ticket: &Ticket, after: i64) -> Result<String, table::Error> {
    let secret = secret::make();
    let write = Write::to("sessions")
        .set("digest", secret::digest(&secret).to_hex().as_str())
        .set("user_name", &ticket.user)
        .set("role", ticket.role.as_str())
        .set("local", ticket.local)
        .set(
            "created_at",
            Value::timestamp(now_ms().max(after.saturating_add(1))),
        );
    app.table.upsert(write.ttl(LIFETIME)).await?;
    Ok(secret)
}

/// The session that a browser holds; none when it has ended.
pub(crate) async fn find(app: &App, secret: &str) -> Result<Option<Session>> {
    let digest = secret::digest(secret).to_hex();
    let digest = digest.as_str();
    let now = now_ms();
    if let Some(session) = app.sign_in.sessions.recall(digest) {
        return Ok(Some(session));
    }
    let row = app.table.get("sessions", &[("digest", digest.into())]).await?;
    let Some(session) = row.and_then(|row| read(digest, &row)) else {
        return Ok(None);
    };
    if now - session.created_at >= LIFETIME_MS {
        return Ok(None);
    }
    let valid = match users::get(app, &session.user).await? {
        Some(user) => user.disabled_at.is_none() && user.changed_at < session.created_at,
        None => !session.local,
    };
    if !valid {
        return Ok(None);
    }
    app.sign_in.sessions.remember(&session);
    Ok(Some(session))
}

/// Ends a session.
pub(crate) async fn end(app: &App, digest: &str) -> Result<(), table::Error> {
    let micros = now_ms().saturating_mul(1000).saturating_add(999);
    let ended = app
        .table
        .delete("sessions", &[("digest", digest.into())], micros)
        .await;
    app.sign_in.sessions.forget();
    ended
}
