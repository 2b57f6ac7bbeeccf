//! NASA Images API searches: Collection+JSON.

use serde::Deserialize;
use serde_json::Value;

use crate::entry::{Entry, Listing};
use crate::error::{Error, Result};
use crate::text::{CREDIT_CHARS, DESCRIPTION_CHARS, TITLE_CHARS, plain};

#[derive(Deserialize)]
struct Search {
    collection: Collection,
}

#[derive(Deserialize)]
struct Collection {
    items: Vec<Lenient>,
}

/// An item that is not as it should be does not spoil the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient {
    Good(Item),
    Bad(Value),
}

#[derive(Deserialize)]
struct Item {
    data: Vec<Data>,
    #[serde(default)]
    links: Option<Vec<Link>>,
}

#[derive(Deserialize)]
struct Data {
    nasa_id: String,
    title: Option<String>,
    description: Option<String>,
    date_created: Option<String>,
    secondary_creator: Option<String>,
    photographer: Option<String>,
    center: Option<String>,
}

#[derive(Deserialize)]
struct Link {
    href: Option<String>,
    rel: Option<String>,
}

/// Reads a search result.
pub(super) fn parse(bytes: &[u8]) -> Result<Listing> {
    let search: Search = serde_json::from_slice(bytes).map_err(|source| Error::Json {
        format: "Collection+JSON",
        source,
    })?;
    let mut listing = Listing::default();
    for (index, item) in search.collection.items.into_iter().enumerate() {
        match item {
            Lenient::Good(item) => match item.data.into_iter().next() {
                Some(data) if !data.nasa_id.trim().is_empty() => {
                    listing.entries.push(entry(data, item.links))
                }
                Some(_) => listing.reject(format!("item {index}"), "its nasa_id is empty"),
                None => listing.reject(format!("item {index}"), "its data is empty"),
            },
            Lenient::Bad(value) => {
                let id = value.pointer("/data/0/nasa_id").and_then(Value::as_str);
                let name = id.map_or_else(|| format!("item {index}"), str::to_owned);
                let reason = match serde_json::from_value::<Item>(value) {
                    Ok(_) => "it is no item".to_owned(),
                    Err(error) => error.to_string(),
                };
                listing.reject(name, reason);
            }
        }
    }
    Ok(listing)
}

fn entry(data: Data, links: Option<Vec<Link>>) -> Entry {
    let links = links.unwrap_or_default();
    let preview = links
        .iter()
        .find(|link| link.rel.as_deref() == Some("preview") && link.href.is_some());
    let link = preview.or_else(|| links.iter().find(|link| link.href.is_some()));
    let credit = data.secondary_creator.or(data.photographer).or(data.center);
    let title = plain(data.title.as_deref().unwrap_or_default(), TITLE_CHARS);
    let created_at = data
        .date_created
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Entry {
        title: if title.is_empty() {
            plain(&data.nasa_id, TITLE_CHARS)
        } else {
            title
        },
        description: plain(data.description.as_deref().unwrap_or_default(), DESCRIPTION_CHARS),
        link: link.and_then(|link| link.href.clone()),
        credit: credit
            .map(|credit| plain(&credit, CREDIT_CHARS))
            .filter(|credit| !credit.is_empty()),
        created_at: created_at.map(|at| at.as_millisecond()),
        native_id: data.nasa_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_bad_ones_named() {
        let json = r#"{"collection": {"version": "1.0", "items": [
            {"data": [{"nasa_id": "A-1", "title": "<b>Comet</b>\u0007 rising", "description": "Seen\nfrom afar.",
                       "date_created": "2016-08-31T18:15:19Z", "secondary_creator": "NASA/Someone", "center": "JPL"}],
             "links": [{"rel": "captions", "href": "https://x/a.srt"}, {"rel": "preview", "href": "https://x/a~thumb.jpg"}]},
            {"data": [{"nasa_id": "A-2", "title": "No link", "center": "JSC"}]},
            {"data": [{"nasa_id": "A-3"}], "links": [{"rel": "preview"}]},
            {"data": [{"nasa_id": 7, "title": "Wrong type"}]},
            {"data": []},
            17
        ]}}"#;
        let listing = parse(json.as_bytes()).unwrap();
        let ids: Vec<_> = listing
            .entries
            .iter()
            .map(|entry| entry.native_id.as_str())
            .collect();
        assert_eq!(ids, ["A-1", "A-2", "A-3"]);
        let first = &listing.entries[0];
        assert_eq!(first.title, "<b>Comet</b> rising");
        assert_eq!(first.description, "Seen from afar.");
        assert_eq!(first.link.as_deref(), Some("https://x/a~thumb.jpg"));
        assert_eq!(first.credit.as_deref(), Some("NASA/Someone"));
        assert_eq!(first.created_at, Some(1_472_667_319_000));
        assert_eq!(listing.entries[1].link, None);
        assert_eq!(listing.entries[1].credit.as_deref(), Some("JSC"));
        assert_eq!(listing.entries[2].title, "A-3");
        let named: Vec<_> = listing
            .rejected
            .iter()
            .map(|rejected| rejected.entry.as_str())
            .collect();
        assert_eq!(named, ["item 3", "item 4", "item 5"]);
        assert!(parse(b"{}").is_err());
    }
}
