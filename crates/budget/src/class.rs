//! What crosses the link, in the order in which it may.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A class of traffic; the first goes before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What the team asks for, receipts, and what the sites tell of themselves.
    Requests,
    /// The core's answers.
    Responses,
    /// Metadata for every edge.
    Broadcasts,
    /// Sensor readings as they come.
    Sensors,
    /// Small pictures of what there is.
    Previews,
    /// Records from before the connection came back.
    Backlog,
    /// The bytes of assets.
    Assets,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Requests,
        Self::Responses,
        Self::Broadcasts,
        Self::Sensors,
        Self::Previews,
        Self::Backlog,
        Self::Assets,
    ];

    /// Whether it is much and can wait: on a metered link somebody is asked first.
    pub fn bulk(self) -> bool {
        matches!(self, Self::Previews | Self::Backlog | Self::Assets)
    }

    /// Its name in settings, status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Responses => "responses",
            Self::Broadcasts => "broadcasts",
            Self::Sensors => "sensors",
            Self::Previews => "previews",
            Self::Backlog => "backlog",
            Self::Assets => "assets",
        }
    }

    /// Its place in [`Class::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|class| class.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is no class; there are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_reads_the_name_it_prints_and_has_its_place() {
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.to_string().parse::<Class>().unwrap(), class);
            assert_eq!(class.index(), place);
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        }
        assert!("films".parse::<Class>().unwrap_err().contains("backlog"));
    }
}
