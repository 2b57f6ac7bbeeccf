//! Who may sign in, one-time links, and who did what.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cli::{Audit, SignIn, User};
use crate::client::Client;
use crate::output::{line, show, table, text, time};

/// Letters of passwords that are made here: none that is taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A one-time link to a page.
pub(crate) fn link(page: &str, ticket: &str) -> String {
    format!("{}/#/sign-in/{ticket}", page.trim_end_matches('/'))
}

/// `fieldline sign-in`.
pub(crate) async fn sign_in(command: &SignIn) -> Result<()> {
    let mut body = json!({"user": command.user.clone().unwrap_or_else(|| own_name(command.api.by()))});
    let own = command.user.is_none().then(|| "operator".to_owned());
    if let Some(role) = command.role.clone().or(own) {
        body["role"] = role.into();
    }
    let mut answer = Client::new(&command.api)?.post("/api/tickets", body).await?;
    let page = command.page.as_ref().unwrap_or(&command.api.url);
    answer["link"] = link(page, &text(&answer, "ticket")).into();
    show(command.api.json, &answer, |answer| {
        line(text(answer, "link"));
        line(format!(
            "signs in {} as {}, once, within ten minutes",
            text(answer, "user"),
            text(answer, "role")
        ));
    });
    Ok(())
}

/// The name of who runs this command, as sites write names.
fn own_name(by: Option<&str>) -> String {
    let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    by.filter(plain).unwrap_or("operator").to_owned()
}

/// `fieldline user …`.
pub(crate) async fn user(command: &User) -> Result<()> {
    match command {
        User::Add {
            name,
            role,
            password_file,
            api,
        } => {
            let password = password(password_file.as_deref())?;
            let body = json!({"name": name, "role": role, "password": password});
            let mut answer = Client::new(api)?.post("/api/users", body).await?;
            if password_file.is_none() {
                answer["password"] = password.into();
            }
            show(api.json, &answer, |answer| {
                line(format!("{name} may sign in as {role}"));
                tell(answer);
            });
        }
        User::List(api) => {
            let answer = Client::new(api)?.get("/api/users").await?;
            show(api.json, &answer, |answer| {
                let rows: Vec<Vec<String>> = answer["users"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|user| {
                        let state = if user["disabled_at"].is_null() {
                            "active"
                        } else {
                            "disabled"
                        };
                        vec![text(user, "name"), text(user, "role"), state.to_owned()]
                    })
                    .collect();
                table(&["NAME", "ROLE", "STATE"], &rows);
            });
        }
        User::Set {
            name,
            role,
            password_file,
            new_password,
            disable,
            enable,
            api,
        } => {
            let mut body = json!({});
            if let Some(role) = role {
                body["role"] = role.as_str().into();
            }
            if *new_password || password_file.is_some() {
                body["password"] = password(password_file.as_deref())?.into();
            }
            if *disable || *enable {
                body["disabled"] = (*disable).into();
            }
            ensure!(
                body != json!({}),
                "nothing to change\nhint: give --role, --new-password, --password-file, --disable or --enable"
            );
            let mut answer = Client::new(api)?
                .post(&format!("/api/users/{name}"), body.clone())
                .await?;
            if *new_password {
                answer["password"] = body["password"].clone();
            }
            show(api.json, &answer, |answer| {
                line(format!("{name} is changed; their sessions have ended"));
                tell(answer);
            });
        }
        User::Remove { name, api } => {
            let answer = Client::new(api)?.delete(&format!("/api/users/{name}")).await?;
            show(api.json, &answer, |_| line(format!("{name} is removed")));
        }
    }
    Ok(())
}

fn tell(answer: &Value) {
    if let Some(password) = answer["password"].as_str() {
        line(format!("password: {password}"));
    }
}

/// The password in a file, or a new one of 80 random bits.
fn password(file: Option<&Path>) -> Result<String> {
    let Some(path) = file else {
        let letter = |byte: u8| char::from(LETTERS[usize::from(byte % 32)]);
        return Ok(rand::random::<[u8; 16]>().into_iter().map(letter).collect());
    };
    let mut password = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut password)
            .context("cannot read the password from standard input")?;
    } else {
        password = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the password from {}", path.display()))?;
    }
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

/// `fieldline audit`.
pub(crate) async fn audit(command: &Audit) -> Result<()> {
    let client = Client::new(&command.api)?;
    let (mut entries, mut before) = (Vec::new(), None::<String>);
    loop {
        let left = command.limit.saturating_sub(entries.len());
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &left.clamp(1, 1000).to_string());
        for (name, value) in [
            ("before", &before),
            ("user", &command.user),
            ("action", &command.action),
            ("q", &command.query),
        ] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let page = client.get(&format!("/api/audit?{}", query.finish())).await?;
        entries.extend(page["entries"].as_array().into_iter().flatten().cloned());
        before = page["next"].as_str().map(str::to_owned);
        if entries.len() >= command.limit || before.is_none() {
            break;
        }
    }
    let answer = json!({"entries": entries, "next": before});
    show(command.api.json, &answer, |answer| {
        let rows: Vec<Vec<String>> = answer["entries"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                let mut row = vec![time(entry["at"].as_i64())];
                row.extend(
                    ["user", "from", "action", "target", "outcome", "detail"].map(|field| text(entry, field)),
                );
                row
            })
            .collect();
        table(
            &["AT", "USER", "FROM", "ACTION", "TARGET", "OUTCOME", "DETAIL"],
            &rows,
        );
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_their_secret_where_servers_never_see_it() {
        let link = link("http://127.0.0.1:8080/", "secret");
        assert_eq!(link, "http://127.0.0.1:8080/#/sign-in/secret");
    }

    #[test]
    fn passwords_that_are_made_are_long_and_plain() {
        let made = password(None).unwrap();
        assert_eq!(made.len(), 16);
        assert!(made.bytes().all(|b| LETTERS.contains(&b)));
        assert_ne!(made, password(None).unwrap());
    }
}
