//! Commands that look into a running site and tell it what to do.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::{Api, AssetIds, Assets, DeadLetters, Service, Tail, Topics, Withdraw};
use crate::client::Client;
use crate::link_past;
use crate::output::{bytes, line, show, table, text, unread};

pub(crate) fn rows<'a>(answer: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    answer[list].as_array().into_iter().flatten()
}

/// Says what runs and what is wrong; an error where something is.
pub(crate) async fn status(api: &Api) -> Result<()> {
    let client = Client::new(api)?;
    let mut answer = client.get("/api/status").await?;
    if answer["kind"] == "edge" {
        answer["link"] = client.get("/api/link").await?;
        answer["link"]["history"] = client.get("/api/link/history?span=day").await.unwrap_or_default();
    }
    show(api.json, &answer, |answer| {
        line(format!(
            "{} {} (version {})",
            text(answer, "kind"),
            text(answer, "site"),
            text(answer, "version")
        ));
        for problem in rows(answer, "problems") {
            line(format!(
                "{}: {}\n  {}",
                text(problem, "severity"),
                text(problem, "what"),
                text(problem, "remedy")
            ));
        }
        line("");
        services(answer);
        line("");
        let states: Vec<String> = answer["assets"]["by_state"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        line(format!(
            "assets: {} ({})",
            text(&answer["assets"], "total"),
            states.join(", ")
        ));
        line(format!("dead letters: {}", text(answer, "dead_letters")));
        let link = &answer["link"];
        if !link.is_null() {
            line("");
            link_past::glance(link, Some(&link["history"]));
        }
    });
    let errors = rows(&answer, "problems")
        .filter(|problem| problem["severity"] == "error")
        .count();
    anyhow::ensure!(errors == 0, "{errors} things are wrong at this site");
    Ok(())
}

fn services(answer: &Value) {
    let lines: Vec<Vec<String>> = rows(answer, "services")
        .map(|service| {
            let detail = if service["detail"].is_null() {
                text(service, "last_error")
            } else {
                text(service, "detail")
            };
            vec![
                text(service, "service"),
                text(service, "instance"),
                text(service, "state"),
                detail,
            ]
        })
        .collect();
    table(&["SERVICE", "INSTANCE", "STATE", "DETAIL"], &lines);
}

/// Lists assets page by page, or shows one.
pub(crate) async fn assets(command: &Assets) -> Result<()> {
    let client = Client::new(&command.api)?;
    if let Some(asset) = &command.asset {
        let answer = client.get(&format!("/api/assets/{asset}")).await?;
        show(command.api.json, &answer, |answer| {
            let lines: Vec<Vec<String>> = answer
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null())
                .map(|(field, _)| vec![field.clone(), text(answer, field)])
                .collect();
            table(&["FIELD", "VALUE"], &lines);
        });
        return Ok(());
    }
    let mut all = Vec::new();
    let mut after = String::new();
    let total = loop {
        let left = if command.limit == 0 {
            1000
        } else {
            (command.limit - all.len()).min(1000)
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("limit", &left.to_string())
            .append_pair("after", &after);
        if let Some(state) = &command.state {
            query.append_pair("state", state);
        }
        if let Some(words) = &command.query {
            query.append_pair("q", words);
        }
        let mut page = client.get(&format!("/api/assets?{}", query.finish())).await?;
        let total = page["total"].as_u64().unwrap_or(0);
        if let Some(assets) = page["assets"].as_array_mut() {
            all.append(assets);
        }
        match page["next"].as_str() {
            Some(next) if command.limit == 0 || all.len() < command.limit => after = next.to_owned(),
            _ => break total,
        }
    };
    show(
        command.api.json,
        &json!({"assets": all, "total": total}),
        |answer| {
            let lines: Vec<Vec<String>> = rows(answer, "assets")
                .map(|asset| {
                    let size = asset["size"].as_u64().map_or_else(|| "–".to_owned(), bytes);
                    let mut state = text(asset, "state");
                    if let Some(reason) = asset["reason"].as_str() {
                        state = format!("{state}: {reason}");
                    }
                    let delivered = rows(asset, "deliveries")
                        .filter(|delivery| !delivery["delivered_at"].is_null())
                        .map(|delivery| text(delivery, "site"))
                        .collect::<Vec<_>>()
                        .join(", ");
                    vec![
                        text(asset, "asset_id"),
                        size,
                        state,
                        text(asset, "title"),
                        delivered,
                    ]
                })
                .collect();
            table(&["ASSET", "SIZE", "STATE", "TITLE", "DELIVERED TO"], &lines);
            line(format!("{} of {total}", lines.len()));
        },
    );
    Ok(())
}

/// Requests assets or takes requests back: `action` is `request` or `cancel`.
pub(crate) async fn ask(command: &AssetIds, action: &str) -> Result<()> {
    let client = Client::new(&command.api)?;
    for asset in &command.assets {
        let answer = client
            .post(
                &format!("/api/assets/{asset}/{action}"),
                json!({"by": command.api.by()}),
            )
            .await?;
        show(command.api.json, &answer, |answer| {
            line(format!("{asset} {}", text(answer, "state")))
        });
    }
    Ok(())
}

/// Withdraws assets at the core.
pub(crate) async fn withdraw(command: &Withdraw) -> Result<()> {
    let client = Client::new(&command.api)?;
    for asset in &command.assets {
        let body = json!({"reason": command.reason, "by": command.api.by()});
        let answer = client
            .post(&format!("/api/assets/{asset}/withdraw"), body)
            .await?;
        show(command.api.json, &answer, |answer| {
            line(format!("{asset} {}", text(answer, "state")))
        });
    }
    Ok(())
}

/// Looks at topics and changes them.
pub(crate) async fn topics(command: &Topics) -> Result<()> {
    match command {
        Topics::List(api) => {
            let answer = Client::new(api)?.get("/api/topics").await?;
            show(api.json, &answer, |answer| {
                let lines: Vec<Vec<String>> = rows(answer, "topics")
                    .map(|topic| {
                        ["name", "partitions", "replication", "cleanup"]
                            .map(|field| text(topic, field))
                            .to_vec()
                    })
                    .collect();
                table(&["TOPIC", "PARTITIONS", "REPLICATION", "CLEANUP"], &lines);
            });
        }
        Topics::Describe { topic, api } => {
            let answer = Client::new(api)?.get(&format!("/api/topics/{topic}")).await?;
            show(api.json, &answer, |answer| {
                line(format!(
                    "{} ({}, id {})",
                    text(answer, "name"),
                    text(answer, "cleanup"),
                    text(answer, "id")
                ));
                let lines: Vec<Vec<String>> = rows(answer, "offsets")
                    .map(|offsets| {
                        ["partition", "low", "high"]
                            .map(|field| text(offsets, field))
                            .to_vec()
                    })
                    .collect();
                table(&["PARTITION", "FIRST OFFSET", "NEXT OFFSET"], &lines);
            });
        }
        Topics::Create {
            topic,
            partitions,
            replication,
            compacted,
            api,
        } => {
            let body = json!({
                "name": topic, "partitions": partitions, "replication": replication, "compacted": compacted,
            });
            let answer = Client::new(api)?.post("/api/topics", body).await?;
            let made = answer["created"] == true;
            show(api.json, &answer, |_| {
                line(format!(
                    "{topic} {}",
                    if made { "created" } else { "is there already" }
                ))
            });
        }
        Topics::Delete { topic, api } => {
            let answer = Client::new(api)?.delete(&format!("/api/topics/{topic}")).await?;
            show(api.json, &answer, |_| line(format!("{topic} deleted")));
        }
    }
    Ok(())
}

/// Prints records as they come, until the end or for ever.
pub(crate) async fn tail(command: &Tail) -> Result<()> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("from", &command.from);
    if let Some(partition) = command.partition {
        query.append_pair("partition", &partition.to_string());
    }
    if let Some(limit) = command.limit {
        query.append_pair("limit", &limit.to_string());
    }
    if command.follow {
        query.append_pair("follow", "true");
    }
    let path = format!("/api/topics/{}/records?{}", command.topic, query.finish());
    let mut response = Client::new(&command.api)?.send(Method::GET, &path, None).await?;
    let mut rest = Vec::new();
    while let Some(part) = response.chunk().await.context("the site closed the connection")? {
        rest.extend_from_slice(&part);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let record: Vec<u8> = rest.drain(..=end).collect();
            if command.api.json {
                line(String::from_utf8_lossy(&record).trim_end());
            } else {
                print_record(&serde_json::from_slice(&record).context("the site sent no JSON line")?);
            }
            if unread() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn print_record(record: &Value) {
    let place = format!(
        "{}/{}@{}",
        text(record, "topic"),
        text(record, "partition"),
        text(record, "offset")
    );
    line(format!(
        "{place} key={} {}",
        text(record, "key"),
        text(record, "schema")
    ));
    if record["value"].is_null() {
        let why = record["error"]
            .as_str()
            .map_or_else(String::new, |error| format!(": {error}"));
        line(format!("  no decoded value{why}"));
    } else {
        line(format!("  {}", record["value"]));
    }
    if let Some(error) = record["dead_letter"]["error"].as_str() {
        line(format!("  dead letter: {error}"));
    }
}

/// Starts and stops a service.
pub(crate) async fn service(command: &Service) -> Result<()> {
    match command {
        Service::Start {
            service,
            log_level,
            api,
        } => {
            order(
                api,
                &format!("/api/services/{service}/start"),
                json!({"by": api.by(), "log_level": log_level}),
            )
            .await
        }
        Service::Stop { service, api } => {
            order(
                api,
                &format!("/api/services/{service}/stop"),
                json!({"by": api.by()}),
            )
            .await
        }
    }
}

/// Writes a desired state, and says what it is now.
pub(crate) async fn order(api: &Api, path: &str, body: Value) -> Result<()> {
    let answer = Client::new(api)?.post(path, body).await?;
    show(api.json, &answer, |answer| {
        line(format!(
            "{} shall be {}",
            text(answer, "service"),
            text(answer, "desired")
        ));
    });
    Ok(())
}

/// Lists dead letters, or sends one again.
pub(crate) async fn dead_letters(command: &DeadLetters) -> Result<()> {
    match command {
        DeadLetters::List(api) => {
            let answer = Client::new(api)?.get("/api/dead-letters").await?;
            show(api.json, &answer, |answer| {
                let lines: Vec<Vec<String>> = rows(answer, "dead_letters")
                    .map(|letter| {
                        ["topic", "partition", "offset", "service", "error"]
                            .map(|f| text(letter, f))
                            .to_vec()
                    })
                    .collect();
                table(&["TOPIC", "PARTITION", "OFFSET", "SERVICE", "ERROR"], &lines);
                if answer["more"] == true {
                    line("there are more");
                }
            });
        }
        DeadLetters::Redrive {
            topic,
            partition,
            offset,
            api,
        } => {
            let path = format!("/api/dead-letters/{topic}/{partition}/{offset}/redrive");
            let answer = Client::new(api)?.post(&path, json!({})).await?;
            show(api.json, &answer, |answer| {
                line(format!(
                    "sent to {}/{}@{}",
                    text(answer, "topic"),
                    text(answer, "partition"),
                    text(answer, "offset")
                ));
            });
        }
    }
    Ok(())
}
