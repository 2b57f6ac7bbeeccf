//! RSS, Atom and JSON feeds, read by feed-rs.

use feed_rs::model;
use feed_rs::parser;
use url::Url;

use crate::entry::{Entry, Listing};
use crate::error::{Error, Result};
use crate::text::{CREDIT_CHARS, DESCRIPTION_CHARS, TITLE_CHARS, from_html};

/// Reads a feed; `base` resolves its relative links.
pub(super) fn parse(bytes: &[u8], base: Option<&Url>) -> Result<Listing> {
    let parser = parser::Builder::new().base_uri(base.map(Url::as_str)).build();
    let feed = parser
        .parse(bytes)
        .map_err(|source| Error::Feed(Box::new(source)))?;
    let feed_author = feed.authors.first().and_then(|author| author.name.clone());
    let mut listing = Listing::default();
    for (index, entry) in feed.entries.into_iter().enumerate() {
        if entry.id.trim().is_empty() {
            listing.reject(format!("entry {index}"), "it has neither id, link nor title");
        } else {
            listing.entries.push(read(entry, feed_author.as_deref()));
        }
    }
    Ok(listing)
}

fn read(entry: model::Entry, feed_author: Option<&str>) -> Entry {
    let media = entry.media.first();
    let text = |text: &model::Text| from_html(&text.content, DESCRIPTION_CHARS);
    let title = entry
        .title
        .as_ref()
        .map(|title| from_html(&title.content, TITLE_CHARS))
        .unwrap_or_default();
    let description = [
        entry.summary.as_ref().map(text),
        entry
            .content
            .as_ref()
            .and_then(|content| content.body.as_deref())
            .map(|body| from_html(body, DESCRIPTION_CHARS)),
        media.and_then(|media| media.description.as_ref()).map(text),
    ];
    let credit = [
        entry.authors.first().and_then(|author| author.name.as_deref()),
        media
            .and_then(|media| media.credits.first())
            .map(|credit| credit.entity.as_str()),
        feed_author,
    ];
    Entry {
        title: if title.is_empty() {
            from_html(&entry.id, TITLE_CHARS)
        } else {
            title
        },
        description: description
            .into_iter()
            .flatten()
            .find(|text| !text.is_empty())
            .unwrap_or_default(),
        link: link(&entry),
        credit: credit
            .into_iter()
            .flatten()
            .map(|name| from_html(name, CREDIT_CHARS))
            .find(|name| !name.is_empty()),
        created_at: entry.published.or(entry.updated).map(|at| at.timestamp_millis()),
        native_id: entry.id,
    }
}

/// What the entry is about rather than the page about it: an enclosure, or else its link.
fn link(entry: &model::Entry) -> Option<String> {
    let media = entry
        .media
        .iter()
        .flat_map(|media| &media.content)
        .find_map(|content| content.url.as_ref());
    if let Some(url) = media {
        return Some(url.to_string());
    }
    let enclosure = entry
        .links
        .iter()
        .find(|link| link.rel.as_deref() == Some("enclosure"));
    // JSON Feed's attachments are links that name a type.
    let page = |kind: &String| kind.starts_with("text/html");
    let attachment = entry
        .links
        .iter()
        .find(|link| link.media_type.as_ref().is_some_and(|kind| !page(kind)));
    let content = entry.content.as_ref().and_then(|content| content.src.as_ref());
    enclosure
        .or(attachment)
        .or(content)
        .or_else(|| entry.links.first())
        .map(|link| link.href.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rss_enclosures_are_the_links_and_html_is_text() {
        let rss = r#"<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>http://n/</link>
            <description>d</description>
            <item><guid>n-1</guid><title>Fish &amp;amp; chips</title><link>http://n/1.html</link>
              <description>&lt;p&gt;Hot&lt;/p&gt;&lt;script&gt;x()&lt;/script&gt;</description>
              <pubDate>Tue, 02 Jan 2024 10:00:00 GMT</pubDate>
              <enclosure url="http://n/1.jpg" length="3" type="image/jpeg"/></item>
            <item><title>Page only</title><link>http://n/2.html</link></item>
            </channel></rss>"#;
        let listing = parse(rss.as_bytes(), None).unwrap();
        let [first, second] = &listing.entries[..] else {
            panic!("{listing:?}")
        };
        assert_eq!(
            (first.native_id.as_str(), first.title.as_str()),
            ("n-1", "Fish & chips")
        );
        assert_eq!(first.description, "Hot");
        assert_eq!(first.link.as_deref(), Some("http://n/1.jpg"));
        assert_eq!(first.created_at, Some(1_704_189_600_000));
        assert_eq!(second.link.as_deref(), Some("http://n/2.html"));
    }

    #[test]
    fn atom_and_json_feeds_are_read() {
        let atom = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>A</title><id>urn:a</id>
            <updated>2024-01-02T10:00:00Z</updated><author><name>Ann</name></author>
            <entry><id>urn:a:1</id><title type="html">&lt;i&gt;One&lt;/i&gt;</title><updated>2024-01-02T10:00:00Z</updated>
            <link rel="enclosure" href="/one.png"/><summary>s</summary></entry></feed>"#;
        let listing = parse(
            atom.as_bytes(),
            Some(&Url::parse("https://a.example/feed").unwrap()),
        )
        .unwrap();
        assert_eq!(listing.entries[0].title, "One");
        assert_eq!(
            listing.entries[0].link.as_deref(),
            Some("https://a.example/one.png")
        );
        assert_eq!(listing.entries[0].credit.as_deref(), Some("Ann"));

        let json = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "J", "items": [
            {"id": "j1", "title": "One", "content_text": "hello", "url": "https://j/1",
             "attachments": [{"url": "https://j/1.mp3", "mime_type": "audio/mpeg"}]}]}"#;
        let listing = parse(json.as_bytes(), None).unwrap();
        assert_eq!(listing.entries[0].native_id, "j1");
        assert_eq!(listing.entries[0].link.as_deref(), Some("https://j/1.mp3"));
        assert!(parse(b"<html/>", None).is_err());
    }
}
