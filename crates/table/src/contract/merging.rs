use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::*;
use crate::write::Select;

/// The latest timestamp wins, cell by cell, whatever order writes arrive in.
pub async fn an_older_write_loses(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    session.upsert(thing().set("note", "new").at(20)).await?;
    session
        .upsert(thing().set("note", "old").set("count", 1).at(10))
        .await?;
    assert_eq!(note(session).await?.as_deref(), Some("new"));
    assert_eq!(
        read(session).await?.and_then(|row| row.int("count")),
        Some(1),
        "another cell has its own timestamp"
    );
    session.upsert(thing().set("note", "newer").at(30)).await?;
    assert_eq!(note(session).await?.as_deref(), Some("newer"));
    session.upsert(thing().set("note", "now")).await?;
    session.upsert(thing().set("note", "later")).await?;
    assert_eq!(
        note(session).await?.as_deref(),
        Some("later"),
        "writes without a timestamp are in order"
    );
    Ok(())
}

/// Of two values with one timestamp the larger stays, as bytes: every replica must come to the same one.
pub async fn a_tie_is_settled_by_the_larger_value(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    for (name, values) in [("up", ["ab", "b"]), ("down", ["b", "ab"])] {
        for value in values {
            let write = Write::to("things")
                .set("shelf", "a")
                .set("box", 1)
                .set("name", name);
            session.upsert(write.set("note", value).at(10)).await?;
        }
        let row = session.get("things", &key(name)).await?;
        assert_eq!(row.as_ref().and_then(|row| row.text("note")), Some("b"), "{name}");
    }
    for value in [1, -1, 7] {
        session.upsert(thing().set("count", value).at(10)).await?;
    }
    let count = read(session).await?.and_then(|row| row.int("count"));
    assert_eq!(count, Some(-1), "the bytes are compared, unsigned");
    session.upsert(thing().set("note", Value::Null).at(10)).await?;
    session.upsert(thing().set("note", "z").at(10)).await?;
    assert_eq!(note(session).await?, None, "a tombstone beats every value");
    Ok(())
}

/// The same writes again, in any order, leave the row as it is.
pub async fn a_replay_changes_nothing(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let writes = [
        thing().set("note", "first").set("count", 1).at(10),
        thing().set("note", Value::Null).at(20),
        thing().set("count", 3).set("sold", true).at(30),
    ];
    session.upsert_all(writes.to_vec()).await?;
    let before = read(session).await?;
    for write in writes.iter().chain(writes.iter().rev()) {
        session.upsert(write.clone()).await?;
    }
    assert_eq!(read(session).await?, before);
    let row = before
        .as_ref()
        .map(|row| (row.text("note"), row.int("count"), row.boolean("sold")));
    assert_eq!(row, Some((None, Some(3), Some(true))));
    Ok(())
}

/// An expired cell reads as null; a row whose marker and cells have expired is not there.
pub async fn expired_cells_and_rows_are_gone(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let ttl = Duration::from_secs(3);
    session.upsert(thing().set("note", "stays").at(10)).await?;
    session.upsert(thing().set("count", 1).at(11).ttl(ttl)).await?;
    let row = Write::to("things")
        .set("shelf", "a")
        .set("box", 1)
        .set("name", "goes")
        .set("note", "goes");
    session.upsert(row.at(10).ttl(ttl)).await?;
    let all = Select::from("things").partition("shelf", "a");
    assert_eq!(session.select(all.clone()).await?.len(), 2);
    assert_eq!(read(session).await?.and_then(|row| row.int("count")), Some(1));
    let limit = Instant::now() + Duration::from_secs(20);
    while session.get("things", &key("goes")).await?.is_some()
        || read(session).await?.is_some_and(|row| row.int("count").is_some())
    {
        assert!(Instant::now() < limit, "what should have expired is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(session.select(all).await?.len(), 1);
    assert_eq!(note(session).await?.as_deref(), Some("stays"));
    session.upsert(thing().set("count", 2).at(9)).await?;
    let count = read(session).await?.and_then(|row| row.int("count"));
    assert_eq!(count, None, "an older write does not bring an expired cell back");
    Ok(())
}

/// A deleted row stays deleted for everything that is not younger than the deletion, and comes back for what is.
pub async fn a_deletion_holds_against_late_writes(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    session
        .upsert(thing().set("note", "old").set("count", 1).at(10))
        .await?;
    session.delete("things", &key("x"), 20).await?;
    assert_eq!(read(session).await?, None);
    assert_eq!(
        session
            .select(Select::from("things").partition("shelf", "a"))
            .await?,
        []
    );
    for late in [15, 20] {
        session.upsert(thing().set("note", "late").at(late)).await?;
        assert_eq!(read(session).await?, None, "a write at {late} came back");
    }
    session.upsert(thing().set("note", "younger").at(21)).await?;
    session.delete("things", &key("x"), 20).await?;
    assert_eq!(note(session).await?.as_deref(), Some("younger"));
    assert_eq!(read(session).await?.and_then(|row| row.int("count")), None);
    session.delete("things", &key("never"), 20).await?;
    session
        .upsert(
            Write::to("things")
                .set("shelf", "a")
                .set("box", 1)
                .set("name", "never")
                .at(19),
        )
        .await?;
    assert_eq!(
        session.get("things", &key("never")).await?,
        None,
        "a deletion may come before what it deletes"
    );
    Ok(())
}

/// A null is a tombstone of its cell, and of nothing else.
pub async fn a_null_deletes_the_cell(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    session
        .upsert(thing().set("note", "here").set("count", 1).at(10))
        .await?;
    session.upsert(thing().set("note", None::<String>).at(20)).await?;
    session.upsert(thing().set("note", "late").at(15)).await?;
    assert_eq!(note(session).await?, None);
    assert_eq!(read(session).await?.and_then(|row| row.int("count")), Some(1));
    session.upsert(thing().set("note", "again").at(21)).await?;
    assert_eq!(note(session).await?.as_deref(), Some("again"));
    Ok(())
}

/// Each writer of a row owns its columns: none undoes what another wrote beside it.
pub async fn writers_of_different_columns_do_not_disturb_each_other(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let writer = async |write: fn(i32) -> Write| {
        for turn in 0..50 {
            session.upsert(write(turn)).await?;
        }
        Ok(())
    };
    let writers: [fn(i32) -> Write; 3] = [
        |turn| thing().set("note", format!("note {turn}")),
        |turn| thing().set("count", turn),
        |turn| thing().set("size", i64::from(turn)).set("sold", turn % 2 == 1),
    ];
    try_join_all(writers.map(writer)).await?;
    let row = read(session).await?;
    let row = row.as_ref().map(|row| {
        (
            row.text("note"),
            row.int("count"),
            row.bigint("size"),
            row.boolean("sold"),
        )
    });
    assert_eq!(row, Some((Some("note 49"), Some(49), Some(49), Some(true))));
    Ok(())
}
