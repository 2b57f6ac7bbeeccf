//! One file, read with its environment into a tree of values that each know where they come from.

use std::path::Path;

use config::{Environment, File, FileFormat, Map, Value, ValueKind};

use crate::sections::Invalid;

/// What the `config` crate calls the environment.
const ENVIRONMENT: &str = "the environment";

/// A table of values.
pub(crate) type Table = Map<String, Value>;

/// Reads a file and the variables that have `__` in their name; a variable counts more than the file.
pub(crate) fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Table, Invalid> {
    let variables = environment.into_iter().filter(|(name, _)| name.contains("__"));
    let variables = Environment::default()
        .separator("__")
        .ignore_empty(true)
        .source(Some(variables.collect()));
    let mut builder = config::Config::builder();
    if let Some(file) = file {
        if !file.is_file() {
            return Err(Invalid(vec![format!(
                "{}: there is no such file",
                file.display()
            )]));
        }
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    collect(builder.add_source(variables))
}

/// Reads TOML text.
pub(crate) fn parse(text: &str) -> Result<Table, Invalid> {
    collect(config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)))
}

fn collect(builder: config::ConfigBuilder<config::builder::DefaultState>) -> Result<Table, Invalid> {
    let wrong = |error: config::ConfigError| Invalid(vec![error.to_string()]);
    config::Source::collect(&builder.build().map_err(wrong)?).map_err(wrong)
}

/// Lays `upper` over `lower`, table by table.
pub(crate) fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        let below = lower.get_mut(&key).map(|value| &mut value.kind);
        if let (Some(ValueKind::Table(below)), ValueKind::Table(above)) = (below, &value.kind) {
            merge(below, above.clone());
        } else {
            lower.insert(key, value);
        }
    }
}

/// Whether a value came from the environment.
pub(crate) fn from_environment(value: &Value) -> bool {
    value.origin() == Some(ENVIRONMENT)
}

/// The value at a path.
pub(crate) fn find<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (last, tables) = path.split_last()?;
    let mut table = table;
    for key in tables {
        match &table.get(key)?.kind {
            ValueKind::Table(inner) => table = inner,
            _ => return None,
        }
    }
    table.get(last)
}

/// Takes the value at a path out.
pub(crate) fn remove(table: &mut Table, path: &[String]) -> Option<Value> {
    let (last, tables) = path.split_last()?;
    let mut table = table;
    for key in tables {
        match &mut table.get_mut(key)?.kind {
            ValueKind::Table(inner) => table = inner,
            _ => return None,
        }
    }
    table.remove(last)
}
