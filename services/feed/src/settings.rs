//! What an operator can set.

use std::net::SocketAddr;

use common::broker;
use common::chassis::{self, Span};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::backlog::Order;
use crate::catalogue::Catalogue;

/// Settings of feed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The site's broker.
    pub broker: broker::Settings,
    /// Where assets are announced from: `sample:`, `dir:///path`, `nasa-file:///path/search.json`,
    /// `nasa+https://images-api.nasa.gov/search?q=…`, `feed-file:///path` or `rss+https://…`.
    pub catalogue: String,
    /// The name that asset ids are derived from; unset, it follows from the catalogue. Another name makes all assets
    /// new ones.
    pub name: Option<String>,
    /// The time between announcements.
    pub interval: Span,
    /// The most assets that are announced at once; each time it is 1 to so many.
    pub batch: usize,
    /// `random`, or `catalogue` for the catalogue's own order.
    pub order: Order,
    /// Starts again at the end of the catalogue, each entry as another asset.
    pub repeat: bool,
    /// How often the catalogue is read again once all of it is announced.
    pub refresh: Span,
    /// How long assets are offered; unset, for ever.
    pub expires_after: Option<Span>,
    /// Changes the beginning of links, for a local mirror of a catalogue; the first that fits is used.
    pub rewrite: Vec<Rewrite>,
    /// Where the assets of `sample:` and `dir:` are served. Port 0 is another port after each start, which breaks links
    /// that were not followed yet: set one where that matters.
    pub serve: SocketAddr,
    /// How others reach that address, where it is not by the address itself.
    pub public_url: Option<String>,
}

/// One change of links.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// How links begin.
    pub from: String,
    /// What takes its place.
    pub to: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            catalogue: String::new(),
            name: None,
            interval: Span::seconds(3),
            batch: 3,
            order: Order::Random,
            repeat: false,
            refresh: Span::seconds(600),
            expires_after: None,
            rewrite: Vec::new(),
            serve: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(wrong) = self.broker.validate() {
            problems.extend(wrong.into_iter().map(|problem| format!("broker: {problem}")));
        }
        if let Err(problem) = self.catalogue.parse::<Catalogue>() {
            problems.push(format!("catalogue: {problem}"));
        }
        if !(1..=10_000).contains(&self.batch) {
            problems.push("batch: 1 to 10000".into());
        }
        for (name, time) in [
            ("interval", Some(self.interval)),
            ("refresh", Some(self.refresh)),
            ("expires_after", self.expires_after),
        ] {
            if time.is_some_and(|time| time.is_zero()) {
                problems.push(format!("{name}: more than 0s"));
            }
        }
        if self
            .name
            .as_deref()
            .is_some_and(|name| name.is_empty() || name.len() > 200)
        {
            problems.push("name: 1 to 200 bytes".into());
        }
        if self.rewrite.iter().any(|rewrite| rewrite.from.is_empty()) {
            problems.push("rewrite: from must not be empty".into());
        }
        let public = self.public_url.as_deref().map(Url::parse);
        if public.is_some_and(|url| !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"))) {
            problems.push("public_url: an http or https URL".into());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Settings {
    /// The link with the first fitting prefix changed.
    pub fn rewritten(&self, link: String) -> String {
        let fitting = self
            .rewrite
            .iter()
            .find_map(|rewrite| Some((link.strip_prefix(&rewrite.from)?, &rewrite.to)));
        match fitting {
            Some((rest, to)) => format!("{to}{rest}"),
            None => link,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::chassis::Settings as _;

    use super::*;

    #[test]
    fn the_first_fitting_rewrite_is_used() {
        let rewrite = |from: &str, to: &str| Rewrite {
            from: from.into(),
            to: to.into(),
        };
        let settings = Settings {
            rewrite: vec![
                rewrite("https://a/b/", "http://m/"),
                rewrite("https://a/", "http://n/"),
            ],
            ..Settings::default()
        };
        assert_eq!(settings.rewritten("https://a/b/c.jpg".into()), "http://m/c.jpg");
        assert_eq!(settings.rewritten("https://a/c.jpg".into()), "http://n/c.jpg");
        assert_eq!(settings.rewritten("https://z/c.jpg".into()), "https://z/c.jpg");
    }

    #[test]
    fn every_wrong_setting_is_named() {
        let wrong = Settings {
            catalogue: "somewhere".into(),
            batch: 0,
            interval: Span::default(),
            public_url: Some("ftp://x".into()),
            ..Settings::default()
        };
        let problems = wrong.validate().unwrap_err().join("\n");
        for key in ["broker: ", "catalogue: ", "batch: ", "interval: ", "public_url: "] {
            assert!(problems.contains(key), "{key} in {problems}");
        }
    }
}
