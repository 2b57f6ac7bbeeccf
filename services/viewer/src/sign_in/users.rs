//! The site's users: one small partition of table `users`.

use axum::http::StatusCode;
use common::chassis::now_ms;
use common::table::{self, Row, Select, Value, Write};

use super::role::Role;
use crate::app::App;
use crate::problem::{Problem, Result};

/// The one partition of the table.
const REALM: &str = "local";
/// More people than work at any site.
const MOST: usize = 1000;

/// A person who may sign in.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) password_hash: String,
    pub(crate) created_at: i64,
    /// Sessions that began before it are void.
    pub(crate) changed_at: i64,
    pub(crate) disabled_at: Option<i64>,
}

/// What changes users, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Users {
    changing: tokio::sync::Mutex<()>,
}

/// What to change of a user; what is none stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) role: Option<Role>,
    pub(crate) password_hash: Option<String>,
    pub(crate) disabled: Option<bool>,
    /// Refuses the change where the user was changed after this.
    pub(crate) unchanged_since: Option<i64>,
    /// Refuses the change where it would leave no operator who may sign in.
    pub(crate) leaves_operator: bool,
}

impl User {
    fn operates(&self) -> bool {
        self.role == Role::Operator && self.disabled_at.is_none()
    }
}

fn key(name: &str) -> [(&'static str, Value); 2] {
    [("realm", REALM.into()), ("name", name.into())]
}

fn read(row: &Row) -> Option<User> {
    Some(User {
        name: row.text("name")?.to_owned(),
        role: Role::parse(row.text("role")?)?,
        password_hash: row.text("password_hash")?.to_owned(),
        created_at: row.timestamp("created_at")?,
        changed_at: row.timestamp("changed_at")?,
        disabled_at: row.timestamp("disabled_at"),
    })
}

/// Checks a name that people give.
pub(crate) fn name(text: &str) -> Result<&str> {
    let valid =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'@');
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || text.len() > 64 || !text.bytes().all(valid) || text == super::ANYONE {
        return Err(Problem::bad_request(
            "name must be at most 64 lower-case letters, digits, `.`, `_`, `-` and `@`, a letter or digit first",
        ));
    }
    Ok(text)
}

pub(crate) async fn get(app: &App, name: &str) -> Result<Option<User>, table::Error> {
    let row = app.table.get("users", &key(name)).await?;
    Ok(row.as_ref().and_then(read))
}

pub(crate) async fn list(app: &App) -> Result<Vec<User>, table::Error> {
    let select = Select::from("users").partition("realm", REALM).limit(MOST);
    let rows = app.table.select(select).await?;
    Ok(rows.iter().filter_map(read).collect())
}

fn unknown(app: &App, name: &str) -> Problem {
    Problem::not_found(format!("{} has no user {name}", app.site)).hint("GET /api/users lists them")
}

/// What was signed in before ends now.
fn ended(app: &App, name: &str) {
    app.sign_in.sessions.forget();
    app.sign_in.tickets.forget(name);
}

/// Refuses that the site loses its last operator with this user. The caller holds the turn.
async fn not_the_last_operator(app: &App, name: &str) -> Result<()> {
    let all = list(app).await?;
    let (this, others): (Vec<&User>, Vec<&User>) = all
        .iter()
        .filter(|user| user.operates())
        .partition(|user| user.name == name);
    if !this.is_empty() && others.is_empty() {
        return Err(Problem::conflict(format!("{name} is the last operator"))
            .hint("make somebody else an operator first, or use the command line"));
    }
    Ok(())
}

/// Adds a user.
pub(crate) async fn add(app: &App, user: &User) -> Result<()> {
    let _one_at_a_time = app.sign_in.users.changing.lock().await;
    let all = list(app).await?;
    if all.iter().any(|known| known.name == user.name) {
        return Err(Problem::conflict(format!(
            "there is a user {} already",
            user.name
        )));
    }
    if all.len() >= MOST {
        return Err(Problem::conflict(format!("a site has at most {MOST} users")));
    }
    app.table.upsert(write(user)).await?;
    ended(app, &user.name);
    Ok(())
}

fn write(user: &User) -> Write {
    Write::to("users")
        .set("realm", REALM)
        .set("name", &user.name)
        .set("password_hash", &user.password_hash)
        .set("role", user.role.as_str())
        .set("created_at", Value::timestamp(user.created_at))
        .set("changed_at", Value::timestamp(user.changed_at))
        .set("disabled_at", Value::timestamp(user.disabled_at))
}

/// Changes a user, whose sessions end.
pub(crate) async fn set(app: &App, name: &str, change: Change) -> Result<User> {
    let _one_at_a_time = app.sign_in.users.changing.lock().await;
    let mut user = get(app, name).await?.ok_or_else(|| unknown(app, name))?;
    if change.unchanged_since.is_some_and(|seen| seen < user.changed_at) {
        return Err(Problem::conflict(format!("somebody has just changed {name}")).hint("sign in again"));
    }
    let goes = change.disabled == Some(true) || change.role.is_some_and(|role| role != Role::Operator);
    if change.leaves_operator && goes {
        not_the_last_operator(app, name).await?;
    }
    let now = now_ms();
    // Later than the change before, so that what was begun after that one ends too.
    user.changed_at = now.max(user.changed_at.saturating_add(1));
    user.role = change.role.unwrap_or(user.role);
    user.password_hash = change.password_hash.unwrap_or(user.password_hash);
    user.disabled_at = match change.disabled {
        Some(true) => user.disabled_at.or(Some(now)),
        Some(false) => None,
        None => user.disabled_at,
    };
    app.table.upsert(write(&user)).await?;
    ended(app, name);
    Ok(user)
}

/// Removes a user, whose sessions end.
pub(crate) async fn remove(app: &App, name: &str, leaves_operator: bool) -> Result<()> {
    let _one_at_a_time = app.sign_in.users.changing.lock().await;
    get(app, name).await?.ok_or_else(|| unknown(app, name))?;
    if leaves_operator {
        not_the_last_operator(app, name).await?;
    }
    let micros = now_ms().saturating_mul(1000).saturating_add(999);
    app.table.delete("users", &key(name), micros).await?;
    ended(app, name);
    Ok(())
}

/// The user that a password belongs to. Whether the name or the password is wrong is not told.
pub(crate) async fn verified(app: &App, name: &str, password: &str) -> Result<User> {
    let user = get(app, name).await?.filter(|user| user.disabled_at.is_none());
    let kept = user.as_ref().map(|user| user.password_hash.as_str());
    let fits = app.sign_in.passwords.verify(password, kept).await?;
    user.filter(|_| fits).ok_or_else(|| {
        Problem::new(StatusCode::UNAUTHORIZED, "the name or the password is wrong")
            .hint("an operator sets a new one with `fieldline user set NAME --new-password`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_taken_for_others() {
        for good in ["kim", "k.lee@example.org", "0-x_y"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Kim",
            "command line",
            "anyone",
            ".kim",
            "kïm",
            &"k".repeat(65),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
