//! Layers, their order, and what a mistake looks like.

use std::collections::BTreeMap;

use chassis::{ByteSize, Config, Host, Invalid, Loaded, Secret, Service, Settings, Span, Stop};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BrokerSettings {
    url: String,
    password: Option<Secret>,
    librdkafka: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LateSettings {
    broker: BrokerSettings,
    interval: Span,
    limit: ByteSize,
    count: u32,
    allow: Vec<String>,
}

impl Default for LateSettings {
    fn default() -> Self {
        let (interval, limit) = (Span::seconds(5), ByteSize::mib(64));
        Self {
            broker: BrokerSettings::default(),
            interval,
            limit,
            count: 1,
            allow: Vec::new(),
        }
    }
}

impl Settings for LateSettings {
    fn validate(&self) -> Result<(), Vec<String>> {
        if self.broker.url.is_empty() {
            Err(vec!["broker.url: not set".into()])
        } else {
            Ok(())
        }
    }
}

struct LateFeed;

impl Service for LateFeed {
    const NAME: &'static str = "late-feed";
    type Settings = LateSettings;

    async fn build(_: LateSettings, _: &Host) -> anyhow::Result<Self> {
        Ok(Self)
    }

    async fn run(self, _: Stop) -> anyhow::Result<()> {
        Ok(())
    }
}

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Loaded<LateSettings>, Invalid> {
    let dir = testkit::temp_dir();
    let file = dir.path().join("site.toml");
    std::fs::write(&file, toml).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(Some(&file), environment)?.load::<LateFeed>()
}

fn problems(toml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(toml, environment).unwrap_err().0
}

const FINE: &str = "[common]\nsite = 'core'\n[common.broker]\nurl = 'sqlite:///a'\n";

#[test]
fn section_is_laid_over_common_and_the_environment_over_both() {
    let toml = "[common]\nsite = 'core'\ngrace = '9s'\n[common.broker]\nurl = 'sqlite:///a'\n\
        librdkafka = { 'fetch.wait.max.ms' = 50 }\n\
        [late_feed]\ninterval = '250ms'\nlimit = '1KiB'\ncount = 3\n[late_feed.broker]\nurl = 'sqlite:///b'\n";
    let loaded = load(toml, &[]).unwrap();
    assert_eq!(
        (loaded.host.site.as_str(), loaded.host.grace),
        ("core", Span::seconds(9))
    );
    assert_eq!(loaded.settings.broker.url, "sqlite:///b");
    assert_eq!(loaded.settings.broker.librdkafka["fetch.wait.max.ms"], "50");
    assert_eq!(
        (loaded.settings.interval, loaded.settings.limit),
        (Span::millis(250), ByteSize::kib(1))
    );

    let environment = [
        ("COMMON__BROKER__URL", "sqlite:///c"),
        ("LATE_FEED__COUNT", "7"),
        ("LATE_FEED__ALLOW", "a, b"),
        ("COMMON__SITE", "edge-1"),
        ("LATE_FEED_PORT", "tcp://10.0.0.1:80"),
        ("LATE_FEED__INTERVAL", ""),
    ];
    let loaded = load(toml, &environment).unwrap();
    assert_eq!(
        loaded.settings.broker.url, "sqlite:///b",
        "the file's own section counts more than common anywhere"
    );
    assert_eq!((loaded.settings.count, loaded.host.site.as_str()), (7, "edge-1"));
    assert_eq!(loaded.settings.allow, ["a", "b"]);
    assert_eq!(
        loaded.settings.interval,
        Span::millis(250),
        "an empty variable is none"
    );
}

#[test]
fn origin_of_each_value_is_known() {
    let origins = load(FINE, &[("LATE_FEED__BROKER__PASSWORD", "hunter2")])
        .unwrap()
        .origins;
    assert!(
        origins["broker.url"].ends_with("site.toml [common]"),
        "{origins:?}"
    );
    assert_eq!(origins["broker.password"], "LATE_FEED__BROKER__PASSWORD");
    assert!(!origins.contains_key("interval"));
}

#[test]
fn unknown_keys_are_all_named_with_the_nearest_known_one() {
    let toml = "[common]\nsite = 'core'\nsiet = 'x'\n[common.broker]\nurl = 'sqlite:///a'\nulr = 'x'\n\
        [common.table]\nurl = 'not for this service'\n\
        [late_feed]\nintervall = '5s'\nnonsense = 1\n[late_fed]\ncount = 3\n[viewer]\nport = 1\n";
    assert_eq!(
        problems(toml, &[("LATE_FEED__CONUT", "3")]),
        [
            "common.broker.ulr: unknown key, did you mean url?",
            "common.siet: unknown key, did you mean site?",
            "late_fed: unknown section, did you mean late_feed?",
            "late_feed.conut: unknown key, did you mean count? (from LATE_FEED__CONUT)",
            "late_feed.intervall: unknown key, did you mean interval?",
            "late_feed.nonsense: unknown key, known are broker, interval, limit, count, allow",
        ]
    );
}

#[test]
fn wrong_values_are_all_named_with_their_path() {
    let toml = "[common]\nsite = 'Core'\n[common.broker]\nurl = 'sqlite:///a'\n\
        [late_feed]\ninterval = 5\nlimit = 'much'\ncount = 'many'\nlog = { level = 'loud' }\n";
    let problems = problems(toml, &[]);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(
        problems[0].starts_with("common.site: must be at most 40 lower-case letters"),
        "{problems:#?}"
    );
    assert!(
        problems[1].starts_with("late_feed.count: is string \"many\", expected"),
        "{problems:#?}"
    );
    assert!(
        problems[2].starts_with("late_feed.interval: `5` is no duration; write it as 250ms"),
        "{problems:#?}"
    );
    assert!(
        problems[3].starts_with("late_feed.limit: `much` is no size"),
        "{problems:#?}"
    );
    assert!(
        problems[4].starts_with("late_feed.log.level: `loud` is no log level"),
        "{problems:#?}"
    );
}

#[test]
fn what_has_no_default_must_be_set() {
    assert_eq!(
        problems("", &[]),
        [
            "late_feed.broker.url: not set",
            "late_feed.site: not set; name the site, as core or edge-1"
        ]
    );
    let config = Config::parse("site = 'core'\ncommon = 3").unwrap();
    assert!(
        config
            .load::<LateFeed>()
            .unwrap_err()
            .0
            .contains(&"common: is not a table; write [common]".into())
    );
}

#[test]
fn mounted_secret_is_read_and_never_shown() {
    let dir = testkit::temp_dir();
    let secret = dir.path().join("password");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let toml = format!("{FINE}password_file = '{}'\n", secret.display());
    let loaded = load(&toml, &[]).unwrap();
    assert_eq!(
        loaded.settings.broker.password.as_ref().unwrap().expose(),
        "hunter2"
    );
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert!(loaded.origins["broker.password"].ends_with("[common]"));

    let missing = format!("{FINE}password_file = '/nowhere/password'\n");
    assert!(
        problems(&missing, &[])[0].starts_with("common.broker.password_file: cannot read /nowhere/password")
    );
    let both = format!("{toml}password = 'x'\n");
    assert_eq!(
        problems(&both, &[]),
        ["common.broker.password_file: set it or password, not both"]
    );
}

#[test]
fn file_that_is_missing_or_broken_is_told() {
    let missing = Config::read(Some("/nowhere/site.toml".as_ref()), []).unwrap_err();
    assert_eq!(missing.0, ["/nowhere/site.toml: there is no such file"]);
    assert!(Config::parse("[common\nsite = 1").is_err());
}

#[test]
fn one_config_can_be_laid_over_another() {
    let upper = Config::parse("[common]\nsite = 'edge-2'\n[late_feed]\ncount = 9").unwrap();
    let loaded = Config::parse(FINE)
        .unwrap()
        .with(upper)
        .load::<LateFeed>()
        .unwrap();
    assert_eq!((loaded.host.site.as_str(), loaded.settings.count), ("edge-2", 9));
    assert_eq!(loaded.settings.broker.url, "sqlite:///a");
}
