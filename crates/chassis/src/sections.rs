//! The settings of one service out of a site's file: defaults, under `[common]`, under the service's own section.
//!
//! A service takes from `[common]` the keys that it has; a key that no service has is a problem, and so is any unknown
//! key elsewhere. All problems are reported at once, each with its path, and with the nearest key that exists.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use config::{ConfigError, Value, ValueKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::layers::{self, Table, find, from_environment, merge, remove};
use crate::{HostSettings, Service, Settings};

const COMMON: &str = "common";

/// Keys of `[common]` that some services have and others do not.
const SHARED: [&str; 4] = ["broker", "table", "volume", "enrolment"];

/// Settings that cannot work: every problem found, each with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<String>);

impl Display for Invalid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Invalid {}

/// A site's settings file with what the environment says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Config {
    root: Table,
    file: Option<String>,
}

/// The settings of one service.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// What the host needs.
    pub host: HostSettings,
    /// What the service needs.
    pub settings: T,
    /// Where each value that is not a default was set, by its path.
    pub origins: BTreeMap<String, String>,
}

impl Config {
    /// Reads a file, if there is one, and the environment, which counts more.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Invalid> {
        let name = file.map(|file| file.display().to_string());
        Ok(Self {
            root: layers::read(file, environment)?,
            file: name,
        })
    }

    /// Reads TOML text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Ok(Self {
            root: layers::parse(text)?,
            file: None,
        })
    }

    /// Lays another one over this one.
    #[must_use]
    pub fn with(mut self, upper: Self) -> Self {
        merge(&mut self.root, upper.root);
        self.file = upper.file.or(self.file);
        self
    }

    /// The settings of a service, or all that is wrong with them.
    pub fn load<S: Service>(&self) -> Result<Loaded<S::Settings>, Invalid> {
        self.section(&S::NAME.replace('-', "_"))
    }

    fn section<T: Settings>(&self, section: &str) -> Result<Loaded<T>, Invalid> {
        let mut problems = Vec::new();
        for name in self
            .root
            .keys()
            .filter(|name| *name != COMMON && *name != section)
        {
            if let Some(near) = nearest(name, [section, COMMON]) {
                problems.push(format!("{name}: unknown section, did you mean {near}?"));
            }
        }
        let layers = Layers {
            common: self.table(COMMON, &mut problems),
            own: self.table(section, &mut problems),
            section,
        };
        let (host_keys, own_keys) = (keys::<HostSettings>(), keys::<T>());
        for key in layers.common.keys() {
            if !host_keys.contains_key(key) && !own_keys.contains_key(key) && !SHARED.contains(&key.as_str())
            {
                let known = host_keys
                    .keys()
                    .chain(own_keys.keys())
                    .map(String::as_str)
                    .chain(SHARED);
                problems.push(layers.unknown(std::slice::from_ref(key), known));
            }
        }
        let mut origins = BTreeMap::new();
        let host: Option<HostSettings> = layers.read(&host_keys, |_| false, &mut origins, &mut problems);
        let foreign = |key: &str| host_keys.contains_key(key) && !own_keys.contains_key(key);
        let settings: Option<T> = layers.read(&own_keys, |key| !foreign(key), &mut origins, &mut problems);
        if let Some(Err(wrong)) = host.as_ref().map(HostSettings::validate) {
            problems.extend(wrong.into_iter().map(|text| layers.place(&text)));
        }
        if let Some(Err(wrong)) = settings.as_ref().map(Settings::validate) {
            problems.extend(wrong.into_iter().map(|text| layers.place(&text)));
        }
        problems.sort();
        problems.dedup();
        match (host, settings) {
            (Some(host), Some(settings)) if problems.is_empty() => Ok(Loaded {
                host,
                settings,
                origins,
            }),
            _ => Err(Invalid(problems)),
        }
    }

    fn table(&self, name: &str, problems: &mut Vec<String>) -> Table {
        match self.root.get(name).map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => table.clone(),
            Some(_) => {
                problems.push(format!("{name}: is not a table; write [{name}]"));
                Table::new()
            }
            None => Table::new(),
        }
    }
}

/// The keys of a type's settings with their defaults.
fn keys<T: Default + Serialize>() -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(T::default()) {
        Ok(serde_json::Value::Object(keys)) => keys,
        _ => serde_json::Map::new(),
    }
}

struct Layers<'a> {
    common: Table,
    own: Table,
    section: &'a str,
}

impl Layers<'_> {
    /// Reads what is known by `keys`, and what of the own section `more` wants; reports problems and goes on.
    fn read<T: DeserializeOwned>(
        &self,
        keys: &serde_json::Map<String, serde_json::Value>,
        more: impl Fn(&str) -> bool,
        origins: &mut BTreeMap<String, String>,
        problems: &mut Vec<String>,
    ) -> Option<T> {
        let mut merged = self.common.clone();
        merged.retain(|key, _| known(keys, key));
        let mut own = self.own.clone();
        own.retain(|key, _| known(keys, key) || more(key));
        merge(&mut merged, own);
        self.fit(&mut merged, keys, &mut Vec::new(), problems);
        self.origins(&merged, &mut Vec::new(), origins);
        // Each wrong value is taken out and its default put in its place, until nothing is wrong any more.
        loop {
            let root = Value::new(None, ValueKind::Table(merged.clone()));
            let error = match serde_path_to_error::deserialize(root) {
                Ok(settings) => return Some(settings),
                Err(error) => error,
            };
            let mut path: Vec<String> = error.path().iter().map(ToString::to_string).collect();
            let cause = innermost(error.into_inner());
            let (field, candidates) = unknown_field(&cause.to_string());
            if let Some(field) = &field
                && path.last() != Some(field)
            {
                path.push(field.clone());
            }
            match &field {
                Some(_) => problems.push(self.unknown(&path, candidates.iter().map(String::as_str))),
                None => problems.push(self.place(&format!("{}: {}", path.join("."), plain(&cause)))),
            }
            while remove(&mut merged, &path).is_none() {
                path.pop()?;
            }
        }
    }

    /// Puts the content of a mounted secret where `x_file` names it, and makes lists of comma-separated texts.
    fn fit(
        &self,
        table: &mut Table,
        keys: &serde_json::Map<String, serde_json::Value>,
        path: &mut Vec<String>,
        problems: &mut Vec<String>,
    ) {
        let files: Vec<String> = table
            .keys()
            .filter(|key| mounted(keys, key).is_some())
            .cloned()
            .collect();
        for key in files {
            let (Some(name), Some(value)) = (mounted(keys, &key), table.remove(&key)) else {
                continue;
            };
            let full = || [path.as_slice(), std::slice::from_ref(&key)].concat().join(".");
            let origin = value.origin().map(ToOwned::to_owned);
            match value
                .into_string()
                .map(|file| (std::fs::read_to_string(&file), file))
            {
                Ok((Ok(text), _)) if !table.contains_key(name) => {
                    table.insert(name.to_owned(), Value::new(origin.as_ref(), text.trim_end()));
                }
                Ok((Ok(_), _)) => {
                    problems.push(self.place(&format!("{}: set it or {name}, not both", full())));
                }
                Ok((Err(error), file)) => {
                    problems.push(self.place(&format!("{}: cannot read {file}: {error}", full())));
                }
                Err(error) => problems.push(self.place(&format!("{}: {}", full(), plain(&error)))),
            }
        }
        for (key, value) in table {
            path.push(key.clone());
            match (keys.get(key), &mut value.kind) {
                (Some(serde_json::Value::Object(keys)), ValueKind::Table(inner)) => {
                    self.fit(inner, keys, path, problems);
                }
                (Some(serde_json::Value::Array(_)), ValueKind::String(text)) => {
                    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                    value.kind = ValueKind::Array(parts.map(|part| Value::new(None, part)).collect());
                }
                _ => {}
            }
            path.pop();
        }
    }

    fn origins(&self, table: &Table, path: &mut Vec<String>, origins: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            path.push(key.clone());
            match &value.kind {
                ValueKind::Table(inner) => self.origins(inner, path, origins),
                _ if from_environment(value) => drop(origins.insert(path.join("."), self.variable(path))),
                _ => {
                    let file = value.origin().unwrap_or("file");
                    origins.insert(path.join("."), format!("{file} [{}]", self.owner(path)));
                }
            }
            path.pop();
        }
    }

    /// Which section set the value at a path; the service's own counts more.
    fn owner(&self, path: &[String]) -> &str {
        let file = path.last().map(|last| format!("{last}_file"));
        let has = |table: &Table| {
            let mounted = file.as_ref().is_some_and(|file| {
                let mut path = path.to_vec();
                path.pop();
                path.push(file.clone());
                find(table, &path).is_some()
            });
            find(table, path).is_some() || mounted
        };
        if !has(&self.own) && has(&self.common) {
            COMMON
        } else {
            self.section
        }
    }

    fn variable(&self, path: &[String]) -> String {
        let path: Vec<String> = std::iter::once(self.owner(path).to_owned())
            .chain(path.iter().cloned())
            .collect();
        path.join("__").to_uppercase()
    }

    /// A problem with the section before its path.
    fn place(&self, problem: &str) -> String {
        let path: Vec<String> = problem
            .split(':')
            .next()
            .unwrap_or_default()
            .split('.')
            .map(Into::into)
            .collect();
        format!("{}.{problem}{}", self.owner(&path), self.said(&path))
    }

    fn said(&self, path: &[String]) -> String {
        let value = find(&self.own, path).or_else(|| find(&self.common, path));
        let variable = value
            .filter(|value| from_environment(value))
            .map(|_| self.variable(path));
        variable
            .map(|variable| format!(" (from {variable})"))
            .unwrap_or_default()
    }

    fn unknown<'k>(&self, path: &[String], known: impl Iterator<Item = &'k str>) -> String {
        let known: Vec<&str> = known.collect();
        let name = path.last().map(String::as_str).unwrap_or_default();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are {}", known.join(", ")),
        };
        format!(
            "{}.{}: unknown key, {hint}{}",
            self.owner(path),
            path.join("."),
            self.said(path)
        )
    }
}

fn known(keys: &serde_json::Map<String, serde_json::Value>, key: &str) -> bool {
    keys.contains_key(key) || mounted(keys, key).is_some()
}

/// The key that `x_file` stands for, where `x` is known and `x_file` is not.
fn mounted<'k>(keys: &serde_json::Map<String, serde_json::Value>, key: &'k str) -> Option<&'k str> {
    let name = key.strip_suffix("_file")?;
    (keys.contains_key(name) && !keys.contains_key(key)).then_some(name)
}

fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known
        .into_iter()
        .map(|key| (strsim::damerau_levenshtein(name, key), key))
        .min()?;
    (near.0 <= 2 && near.0 < name.len().min(near.1.len())).then_some(near.1)
}

/// What serde says of an unknown field: its name, and those it knows.
fn unknown_field(text: &str) -> (Option<String>, Vec<String>) {
    let Some(rest) = text.strip_prefix("unknown field ") else {
        return (None, Vec::new());
    };
    let mut quoted = rest.split('`').skip(1).step_by(2).map(ToOwned::to_owned);
    (quoted.next(), quoted.collect())
}

fn innermost(error: ConfigError) -> ConfigError {
    match error {
        ConfigError::At { error, .. } => innermost(*error),
        other => other,
    }
}

/// The error without the path and the origin, which are said elsewhere.
fn plain(error: &ConfigError) -> String {
    match error {
        ConfigError::Type {
            unexpected, expected, ..
        } => format!("is {unexpected}, expected {expected}"),
        other => other.to_string(),
    }
}
