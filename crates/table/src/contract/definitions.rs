use super::*;
use crate::error::Error;

/// The first time all are applied and named, the second time none, and what was written stays.
pub async fn migrating_twice_changes_nothing(session: &Session) -> Result<()> {
    assert_eq!(session.migrate(TABLES).await?, ["001_things", "002_events"]);
    session.upsert(thing().set("note", "stays")).await?;
    assert_eq!(session.migrate(TABLES).await?, [""; 0]);
    assert_eq!(note(session).await?.as_deref(), Some("stays"));
    session.prepare(TABLES).await?;
    assert_eq!(session.migrate(ADDED).await?, ["003_colour"]);
    assert_eq!(session.migrate(ADDED).await?, [""; 0]);
    // A release back knows fewer steps than are applied, and works.
    session.prepare(TABLES).await
}

/// A step that was applied may not change; its comments may.
pub async fn a_changed_migration_is_an_error(session: &Session) -> Result<()> {
    session.migrate(&TABLES[1..]).await?;
    let changed = |cql| {
        [Migration {
            name: TABLES[1].name,
            cql,
        }]
    };
    let text =
        changed("CREATE TABLE IF NOT EXISTS events (source text, day int, PRIMARY KEY ((source, day)));");
    for outcome in [
        session.migrate(&text).await.map(drop),
        session.prepare(&text).await,
    ] {
        assert!(
            matches!(outcome, Err(Error::MigrationChanged { .. })),
            "{outcome:?}"
        );
    }
    session
        .prepare(&changed(
            "-- a comment
            CREATE TABLE IF NOT EXISTS events (source text, day int, at timestamp, text text,
            PRIMARY KEY ((source, day), at)) WITH CLUSTERING ORDER BY (at DESC)",
        ))
        .await
}

/// Services do not make tables: they say which step is missing and what to run.
pub async fn an_unmigrated_place_names_the_remedy(session: &Session) -> Result<()> {
    let remedy = |step: &str| {
        Some(format!(
            "migration {step} is not applied (hint: run `fieldline init`)"
        ))
    };
    let nothing = session.prepare(TABLES).await.err();
    assert_eq!(nothing.map(|error| error.to_string()), remedy("001_things"));
    session.migrate(TABLES).await?;
    let one = session.prepare(ADDED).await.err();
    assert_eq!(one.as_ref().map(ToString::to_string), remedy("003_colour"));
    assert_eq!(one.map(|error| error.retryable()), Some(false));
    let unknown = session.upsert(thing().set("colour", "red")).await;
    assert!(matches!(unknown, Err(Error::UnknownColumn { .. })), "{unknown:?}");
    Ok(())
}

/// A column that is added later can be written and read beside the older ones.
pub async fn an_added_column_is_null_in_older_rows(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    session.upsert(thing().set("note", "older")).await?;
    session.migrate(ADDED).await?;
    let row = read(session).await?;
    assert_eq!(
        row.as_ref().map(|row| (row.text("note"), row.text("colour"))),
        Some((Some("older"), None))
    );
    session.upsert(thing().set("colour", "red")).await?;
    let row = read(session).await?;
    assert_eq!(
        row.as_ref().map(|row| (row.text("note"), row.text("colour"))),
        Some((Some("older"), Some("red")))
    );
    Ok(())
}
