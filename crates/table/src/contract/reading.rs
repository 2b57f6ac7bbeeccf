use super::*;
use crate::error::Error;
use crate::write::Select;

/// Every type comes back as it was written, empty values included; what is not there is not found.
pub async fn what_was_written_is_read(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let values: [(&str, Value); 7] = [
        ("note", "naïve \u{1f9ed} \0 text".into()),
        ("count", i32::MIN.into()),
        ("size", i64::MAX.into()),
        ("weight", (-0.25).into()),
        ("sold", true.into()),
        ("image", vec![0_u8, 255, 1].into()),
        ("seen_at", Value::timestamp(-1)),
    ];
    let write = values
        .iter()
        .fold(thing(), |write, (column, value)| write.set(column, value.clone()));
    session.upsert(write).await?;
    let Some(row) = read(session).await? else {
        panic!("the row is not there")
    };
    for (column, value) in &values {
        assert_eq!(row.value(column), value, "{column}");
    }
    assert_eq!((row.int("box"), row.text("name")), (Some(1), Some("x")));
    assert_eq!(
        (row.bigint("size"), row.double("weight")),
        (Some(i64::MAX), Some(-0.25))
    );
    session
        .upsert(thing().set("note", "").set("image", Vec::new()))
        .await?;
    let Some(row) = read(session).await? else {
        panic!("the row is not there")
    };
    assert_eq!(
        (row.text("note"), row.blob("image"), row.int("count")),
        (Some(""), Some(&[][..]), Some(i32::MIN))
    );
    assert_eq!(session.get("things", &key("other")).await?, None);
    session.ping().await
}

/// An upsert writes the row's marker, as CQL's INSERT does.
pub async fn a_row_with_only_its_key_is_there(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    session.upsert(thing().at(10)).await?;
    assert_eq!(note(session).await?, None);
    session.upsert(thing().set("note", Value::Null).at(11)).await?;
    assert_eq!(note(session).await?, None);
    Ok(())
}

/// Nothing of a malformed request reaches the engine, and none of it may be tried again.
pub async fn malformed_requests_are_refused(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let refused = [
        (Write::to("nothing").set("a", 1), "unknown table nothing"),
        (thing().set("nothing", 1), "table things has no column nothing"),
        (thing().set("count", 1_i64), "things.count is int, not bigint"),
        (
            thing().set("weight", f64::NAN),
            "things.weight is double, not not-a-number",
        ),
        (
            thing().set("note", "a").set("note", "b"),
            "table things: column note is set twice",
        ),
        (
            Write::to("things").set("shelf", "a"),
            "table things: 1 of 3 columns of the key are set",
        ),
        (
            Write::to("things").set("shelf", Value::Null),
            "table things: shelf is null, and part of the key",
        ),
        (
            Write::to("things").set("shelf", ""),
            "table things: shelf is empty",
        ),
        (
            thing().ttl(std::time::Duration::ZERO),
            "table things: a ttl of 0ns is not between 1 s and 20 years",
        ),
    ];
    for (write, expected) in refused {
        let error = session.upsert_all(vec![thing(), write]).await.err();
        assert_eq!(error.as_ref().map(ToString::to_string).as_deref(), Some(expected));
        assert_eq!(error.as_ref().map(Error::retryable), Some(false));
    }
    assert_eq!(
        read(session).await?,
        None,
        "the well-formed write beside it was made"
    );
    let short = session.get("things", &key("x")[..2]).await;
    assert!(matches!(short, Err(Error::Key { .. })), "{short:?}");
    let skipping = Select::from("things").partition("shelf", "a").prefix("name", "x");
    assert!(matches!(session.select(skipping).await, Err(Error::Key { .. })));
    Ok(())
}

async fn fill(session: &Session) -> Result<Vec<(i32, String)>> {
    session.migrate(TABLES).await?;
    // Bytes decide the order of texts: capitals before small letters, and those before accents.
    let names = ["B", "a", "b", "ba", "é", "\u{1f9ed}"];
    let boxes = [-5, 0, 3, 200];
    let keys = boxes
        .iter()
        .flat_map(|at| names.iter().map(move |name| (*at, (*name).to_owned())));
    let keys = keys.collect::<Vec<_>>();
    let write = |(at, name): &(i32, String)| {
        Write::to("things")
            .set("shelf", "a")
            .set("box", *at)
            .set("name", name)
            .set("note", format!("{at}{name}"))
    };
    let mut writes = keys.iter().rev().map(write).collect::<Vec<_>>();
    writes.push(
        Write::to("things")
            .set("shelf", "b")
            .set("box", 0)
            .set("name", "elsewhere"),
    );
    session.upsert_all(writes).await?;
    Ok(keys)
}

fn keys(rows: &[Row]) -> Vec<(i32, String)> {
    let key = |row: &Row| {
        (
            row.int("box").unwrap_or_default(),
            row.text("name").unwrap_or_default().to_owned(),
        )
    };
    rows.iter().map(key).collect()
}

async fn paged(session: &Session, select: Select, limit: usize) -> Result<Vec<(i32, String)>> {
    let mut all = Vec::new();
    let mut next = select.clone().limit(limit);
    loop {
        let rows = session.select(next).await?;
        assert!(rows.len() <= limit);
        all.extend(keys(&rows));
        let Some((at, name)) = all.last().filter(|_| rows.len() == limit) else {
            return Ok(all);
        };
        next = select.clone().limit(limit).after(vec![(*at).into(), name.into()]);
    }
}

/// All rows, each once, in the order of the clustering key or against it, whatever the size of the page.
pub async fn a_partition_is_read_in_clustering_order_page_by_page(session: &Session) -> Result<()> {
    let expected = fill(session).await?;
    let all = Select::from("things").partition("shelf", "a");
    assert_eq!(keys(&session.select(all.clone()).await?), expected);
    let backwards = expected.iter().rev().cloned().collect::<Vec<_>>();
    for limit in [1, 5, 24, 100] {
        assert_eq!(
            paged(session, all.clone(), limit).await?,
            expected,
            "pages of {limit}"
        );
        assert_eq!(
            paged(session, all.clone().descending(), limit).await?,
            backwards,
            "pages of {limit}, backwards"
        );
    }
    assert_eq!(session.select(all.clone().limit(0)).await?, []);
    let narrow = session.select(all.columns(&["note"]).limit(1)).await?;
    assert_eq!(
        narrow
            .iter()
            .map(|row| (row.text("note"), row.int("box")))
            .collect::<Vec<_>>(),
        [(Some("-5B"), None)]
    );
    Ok(())
}

/// A prefix of the clustering key reads only the rows below it, in pages too.
pub async fn a_prefix_narrows_a_read(session: &Session) -> Result<()> {
    let expected = fill(session)
        .await?
        .into_iter()
        .filter(|(at, _)| *at == 3)
        .collect::<Vec<_>>();
    let some = Select::from("things").partition("shelf", "a").prefix("box", 3);
    for limit in [1, 4, 100] {
        assert_eq!(paged(session, some.clone(), limit).await?, expected);
    }
    let backwards = expected.iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(paged(session, some.clone().descending(), 4).await?, backwards);
    let one = session.select(some.clone().prefix("name", "ba")).await?;
    assert_eq!(keys(&one), [(3, "ba".to_owned())]);
    let behind = some
        .clone()
        .prefix("name", "ba")
        .after(vec![3.into(), "ba".into()]);
    assert_eq!(session.select(behind).await?, []);
    let outside = session.select(some.after(vec![4.into(), "ba".into()])).await;
    assert!(matches!(outside, Err(Error::Key { .. })));
    Ok(())
}

/// `WITH CLUSTERING ORDER BY (… DESC)` turns the order round, and `descending` turns it back.
pub async fn a_descending_table_is_read_from_the_largest_down(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let event = |at: i64| {
        Write::to("events")
            .set("source", "s")
            .set("day", 1)
            .set("at", Value::timestamp(at))
    };
    session.upsert_all([2, -7, 5, 3].map(event).to_vec()).await?;
    let all = Select::from("events")
        .partition("day", 1)
        .partition("source", "s");
    let times = |rows: Vec<Row>| {
        rows.iter()
            .filter_map(|row| row.timestamp("at"))
            .collect::<Vec<_>>()
    };
    assert_eq!(times(session.select(all.clone()).await?), [5, 3, 2, -7]);
    assert_eq!(
        times(
            session
                .select(all.clone().after(vec![Value::timestamp(3)]))
                .await?
        ),
        [2, -7]
    );
    assert_eq!(
        times(session.select(all.clone().descending()).await?),
        [-7, 2, 3, 5]
    );
    assert_eq!(
        times(
            session
                .select(all.descending().after(vec![Value::timestamp(2)]))
                .await?
        ),
        [3, 5]
    );
    Ok(())
}

/// Batches of any size, over many partitions, are written whole.
pub async fn many_rows_are_written_at_once(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    session.upsert_all(Vec::new()).await?;
    let write = |at: i32| {
        let shelf = format!("shelf {}", at % 7);
        Write::to("things")
            .set("shelf", shelf)
            .set("box", at)
            .set("name", "n")
            .set("count", at)
    };
    session.upsert_all((0..1000).map(write).collect()).await?;
    let mut found = Vec::new();
    for shelf in 0..7 {
        let rows = session
            .select(Select::from("things").partition("shelf", format!("shelf {shelf}")))
            .await?;
        found.extend(rows.iter().filter_map(|row| row.int("count")));
    }
    found.sort_unstable();
    assert_eq!(found, (0..1000).collect::<Vec<_>>());
    Ok(())
}

/// A mebibyte in one cell is nothing special.
pub async fn large_blobs_are_kept(session: &Session) -> Result<()> {
    session.migrate(TABLES).await?;
    let blob = |seed: u8| {
        (0..1 << 20)
            .map(|at: u32| (at % 251) as u8 ^ seed)
            .collect::<Vec<_>>()
    };
    let writes = (0..4_u8).map(|seed| {
        Write::to("things")
            .set("shelf", "a")
            .set("box", 1)
            .set("name", seed.to_string())
            .set("image", blob(seed))
    });
    session.upsert_all(writes.collect()).await?;
    for seed in 0..4_u8 {
        let row = session.get("things", &key(&seed.to_string())).await?;
        assert!(
            row.as_ref().and_then(|row| row.blob("image")) == Some(&blob(seed)[..]),
            "blob {seed} differs"
        );
    }
    Ok(())
}
