//! `fieldline link`: how the link is, what it may use, and when it rests.

use anyhow::{Result, anyhow};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::Api;
use crate::client::Client;
use crate::inspect::{order, rows};
use crate::link_offsets::{self, LinkOffsets};
use crate::link_past::{self, Span};
use crate::link_verify::{self, LinkVerify};
use crate::output::{line, show, text};

/// What a word of a command means for a setting.
const OFF: &str = "off";
const CONFIGURED: &str = "configured";

#[derive(Debug, Subcommand)]
pub(crate) enum Link {
    /// Say how the link is.
    Status(Api),
    /// Say how the link was: what waited, what crossed, how long this site could have waited, and when the core was away.
    History {
        /// How far back.
        #[arg(long, value_enum, default_value_t = Span::Day)]
        span: Span,
        #[command(flatten)]
        api: Api,
    },
    /// Carry nothing until resumed, or nothing of one route.
    Pause {
        /// The route; all of them unless told.
        route: Option<String>,
        #[command(flatten)]
        api: Api,
    },
    /// Carry again.
    Resume {
        /// The route; all of them unless told.
        route: Option<String>,
        #[command(flatten)]
        api: Api,
    },
    /// Set how many bytes may cross in a second, both directions together.
    Cap {
        /// As 32KB; "off" for no cap, "configured" for what the settings file says.
        rate: String,
        #[command(flatten)]
        api: Api,
    },
    /// Set when the link may be used.
    Windows {
        /// As "mon-fri 22:00-06:00"; "off" for always, "configured" for what the settings file says.
        #[arg(required = true)]
        windows: Vec<String>,
        /// The time zone of windows, days and months, as Europe/Berlin; "configured" for what the settings file says.
        #[arg(long)]
        zone: Option<String>,
        #[command(flatten)]
        api: Api,
    },
    /// Set how many bytes may cross in a day and in a month.
    Budget {
        /// As 200MB; "off" for no limit, "configured" for what the settings file says.
        #[arg(long, required_unless_present = "month")]
        day: Option<String>,
        /// As 5GB; "off" for no limit, "configured" for what the settings file says.
        #[arg(long)]
        month: Option<String>,
        #[command(flatten)]
        api: Api,
    },
    /// Set how much of what may cross each lower class gets at least while higher ones could take everything.
    Share {
        /// In percent, 1 to 15; "configured" for what the settings file says.
        percent: String,
        #[command(flatten)]
        api: Api,
    },
    /// Let what comes in on a route go before what waits from an outage, which then goes to `<topic>.backlog`.
    LiveFirst {
        /// The route.
        route: String,
        /// Whether it does.
        #[arg(value_enum)]
        first: Switch,
        #[command(flatten)]
        api: Api,
    },
    /// Set what goes before a route's records and after them while more waits than may cross.
    Class {
        /// The route, one of the site's own.
        route: String,
        /// requests, responses, broadcasts, sensors, previews, backlog or assets, the first before all others; "configured"
        /// for what the settings file says.
        class: String,
        #[command(flatten)]
        api: Api,
    },
    /// Say whether bytes cost money here: then previews, backlog and assets wait for `allow`.
    Metered {
        /// Whether they do.
        #[arg(value_enum)]
        metered: Switch,
        #[command(flatten)]
        api: Api,
    },
    /// Let so many bytes of previews, backlog and assets cross a metered link from now on.
    Allow {
        /// As 20MB; 0 takes back what is left.
        bytes: String,
        #[command(flatten)]
        api: Api,
    },
    /// Move consumer groups to the other side: show their positions there, and commit them.
    Offsets(LinkOffsets),
    /// Compare source and destination of what was carried.
    Verify(LinkVerify),
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It does.
    On,
    /// It does not.
    Off,
    /// As the settings file says.
    Configured,
}

/// `fieldline link`.
pub(crate) async fn run(command: &Link) -> Result<()> {
    match command {
        Link::Status(api) => status(api).await,
        Link::History { span, api } => link_past::history(api, *span).await,
        Link::Pause { route: None, api } => order(api, "/api/link/pause", json!({"by": api.by()})).await,
        Link::Resume { route: None, api } => order(api, "/api/link/resume", json!({"by": api.by()})).await,
        Link::Pause {
            route: Some(route),
            api,
        } => set(api, json!({"routes": {route: "paused"}})).await,
        Link::Resume {
            route: Some(route),
            api,
        } => set(api, json!({"routes": {route: "running"}})).await,
        Link::Cap { rate, api } => set(api, budget(&[("cap", Some(rate))])).await,
        Link::Windows { windows, zone, api } => set(api, windows_of(windows, zone.as_ref())).await,
        Link::Budget { day, month, api } => {
            set(
                api,
                budget(&[("per_day", day.as_ref()), ("per_month", month.as_ref())]),
            )
            .await
        }
        Link::Share { percent, api } => set(api, share(percent)?).await,
        Link::Metered { metered, api } => {
            let body = match metered {
                Switch::Configured => json!({"as_configured": ["budget/metered"]}),
                on => json!({"budget": {"metered": *on == Switch::On}}),
            };
            set(api, body).await
        }
        Link::LiveFirst { route, first, api } => {
            let body = match first {
                Switch::Configured => json!({"as_configured": [format!("live_first/{route}")]}),
                on => json!({"live_first": {route: *on == Switch::On}}),
            };
            set(api, body).await
        }
        Link::Class { route, class, api } => {
            let body = match class.as_str() {
                CONFIGURED => json!({"as_configured": [format!("class/{route}")]}),
                class => json!({"classes": {route: class}}),
            };
            set(api, body).await
        }
        Link::Allow { bytes, api } => set(api, json!({"allow": bytes})).await,
        Link::Offsets(wish) => link_offsets::run(wish).await,
        Link::Verify(wish) => link_verify::run(wish).await,
    }
}

/// Settings of the budget, each as it was written.
fn budget(settings: &[(&str, Option<&String>)]) -> Value {
    let mut body = json!({"budget": {}, "as_configured": []});
    for (key, word) in settings {
        match word.map(String::as_str) {
            None => {}
            Some(OFF) => body["budget"][*key] = Value::Null,
            Some(CONFIGURED) => body["as_configured"] = extended(&body["as_configured"], key),
            Some(value) => body["budget"][*key] = value.into(),
        }
    }
    body
}

fn extended(list: &Value, key: &str) -> Value {
    let mut list = list.as_array().cloned().unwrap_or_default();
    list.push(format!("budget/{key}").into());
    list.into()
}

fn share(percent: &str) -> Result<Value> {
    if percent == CONFIGURED {
        return Ok(json!({"as_configured": ["budget/share"]}));
    }
    let percent: u8 = percent
        .trim_end_matches('%')
        .parse()
        .map_err(|_| anyhow!("{percent:?} is no share\nhint: a number of percent, 1 to 15, or configured"))?;
    Ok(json!({"budget": {"share": percent}}))
}

fn windows_of(windows: &[String], zone: Option<&String>) -> Value {
    let mut body = budget(&[("zone", zone)]);
    match windows {
        [word] if word == OFF => body["budget"]["windows"] = json!([]),
        [word] if word == CONFIGURED => body["as_configured"] = extended(&body["as_configured"], "windows"),
        windows => body["budget"]["windows"] = json!(windows),
    }
    body
}

/// Sets what a body says, and says it.
async fn set(api: &Api, mut body: Value) -> Result<()> {
    body["by"] = api.by().into();
    let answer = Client::new(api)?.post("/api/link", body).await?;
    show(api.json, &answer, |answer| {
        for (key, value) in answer["set"].as_object().into_iter().flatten() {
            match value {
                Value::Null if key.starts_with("budget/") => line(format!("{key}: none, or as configured")),
                Value::Null => line(format!("{key}: as configured")),
                value => line(format!("{key}: {value}")),
            }
        }
    });
    Ok(())
}

async fn status(api: &Api) -> Result<()> {
    let answer = Client::new(api)?.get("/api/link").await?;
    show(api.json, &answer, |answer| {
        line(format!(
            "{}; desired: {}",
            text(answer, "state"),
            answer["desired"].as_str().unwrap_or("running")
        ));
        if let Some(why) = answer["why"].as_str() {
            line(format!("  {why}"));
        }
        for instance in rows(answer, "instances") {
            line(format!(
                "{}: {} {}\n  behind: {} records down, {} up; carried: {} down, {} up; lost: {}",
                text(instance, "instance"),
                text(instance, "state"),
                instance["detail"].as_str().unwrap_or_default(),
                text(&instance["gauges"], "lag_records_down"),
                text(&instance["gauges"], "lag_records_up"),
                text(&instance["counters"], "carried_down"),
                text(&instance["counters"], "carried_up"),
                instance["counters"]["lost"].as_i64().unwrap_or(0),
            ));
        }
        limits(&answer["limits"]);
    });
    Ok(())
}

fn bytes(value: &Value) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes"
    )]
    value.as_f64().map_or_else(
        || "no limit".to_owned(),
        |bytes| crate::output::bytes(bytes as u64),
    )
}

fn limits(limits: &Value) {
    line(format!(
        "cap: {} a second; now {}{}\nday: {} of {}; month: {} of {}{}",
        bytes(&limits["cap"]),
        bytes(&limits["bytes_per_second"]),
        match &limits["busiest_bytes_per_second"] {
            Value::Null => String::new(),
            rate => format!("; in the last hour's busiest minute {}", bytes(rate)),
        },
        bytes(&limits["day"]["bytes"]),
        bytes(&limits["day"]["limit"]),
        bytes(&limits["month"]["bytes"]),
        bytes(&limits["month"]["limit"]),
        if limits["metered"] == true {
            format!("; metered, {} allowed", bytes(&limits["allowed_bytes"]))
        } else {
            String::new()
        },
    ));
    line(format!(
        "may be used {}{}; each lower class gets {} % at least",
        match limits["windows"].as_array() {
            Some(windows) if !windows.is_empty() => windows
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            _ => "always".to_owned(),
        },
        limits["zone"]
            .as_str()
            .map(|zone| format!(" ({zone})"))
            .unwrap_or_default(),
        limits["share"],
    ));
    for class in rows(limits, "classes") {
        let held = class["held"].as_str().map(|held| format!("; held: {held}"));
        line(format!(
            "  {}: {} today, {} this month{}",
            text(class, "class"),
            bytes(&class["day_bytes"]),
            bytes(&class["month_bytes"]),
            held.unwrap_or_default()
        ));
    }
    for route in rows(limits, "routes") {
        line(link_past::route(route));
    }
    if let Some(buffer) = link_past::buffer(&limits["buffer"]) {
        line(buffer);
    }
    for (key, set) in limits["set"].as_object().into_iter().flatten() {
        line(format!("set by {}: {key} {}", text(set, "by"), set["value"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_is_set_and_what_goes_back_to_the_settings_file() {
        let (off, configured, rate) = (OFF.to_owned(), CONFIGURED.to_owned(), "32KB".to_owned());
        assert_eq!(budget(&[("cap", Some(&rate))])["budget"], json!({"cap": "32KB"}));
        let both = budget(&[("per_day", Some(&off)), ("per_month", Some(&configured))]);
        assert_eq!(both["budget"], json!({"per_day": null}));
        assert_eq!(both["as_configured"], json!(["budget/per_month"]));
        assert_eq!(windows_of(&[off], None)["budget"], json!({"windows": []}));
        let back = windows_of(std::slice::from_ref(&configured), Some(&configured));
        assert_eq!(back["as_configured"], json!(["budget/zone", "budget/windows"]));
        let (nights, zone) = ("22:00-06:00".to_owned(), "Europe/Berlin".to_owned());
        assert_eq!(
            windows_of(&[nights], Some(&zone))["budget"],
            json!({"windows": ["22:00-06:00"], "zone": "Europe/Berlin"})
        );
    }
}
