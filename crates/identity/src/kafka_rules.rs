//! What a Kafka with access rules (ACLs) must let a site do, in the words of Kafka's own tool.

use std::fmt;

use schemas::{SiteId, at_core, topic};

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The topic of this name.
    Topic(String),
    /// All topics whose names begin so.
    TopicsFrom(String),
    /// All transactional ids that begin so.
    TransactionalIdsFrom(String),
    /// The consumer group of this name.
    Group(String),
}

/// One rule that lets somebody do something; shown as the command that makes it, but for where that Kafka is.
///
/// `Read`, `Write` and `Alter` let see the same thing too (`Describe`), by Kafka's own rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaRule {
    /// Whom, as that Kafka names its clients.
    pub principal: String,
    /// Kafka's names of what is let: `Read`, `Write`.
    pub operations: &'static [&'static str],
    /// With what.
    pub resource: Resource,
}

impl fmt::Display for KafkaRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka-acls --add --allow-principal {}", self.principal)?;
        for operation in self.operations {
            write!(f, " --operation {operation}")?;
        }
        let (kind, name, begins) = match &self.resource {
            Resource::Topic(name) => ("topic", name, false),
            Resource::TopicsFrom(name) => ("topic", name, true),
            Resource::TransactionalIdsFrom(name) => ("transactional-id", name, true),
            Resource::Group(name) => ("group", name, false),
        };
        write!(f, " --{kind} {name}")?;
        if begins {
            f.write_str(" --resource-pattern-type prefixed")?;
        }
        Ok(())
    }
}

/// What a Kafka calls a site: the common name of its certificate.
pub fn kafka_principal(site: &SiteId) -> String {
    format!("User:CN={site}")
}

/// What a site must be let do at the core's Kafka.
#[derive(Debug, Clone, Default)]
pub struct KafkaNeeds {
    /// Topics that routes of its own bring down.
    pub down: Vec<String>,
    /// Topics that routes of its own take up, by their names at the core, when those do not begin with the site's.
    pub up: Vec<String>,
    /// Consumer groups that are to be moved between the two.
    pub groups: Vec<String>,
}

impl KafkaNeeds {
    /// The rules that let a site do all of this and what every site does, and nothing else.
    pub fn rules(&self, site: &SiteId, principal: &str) -> Vec<KafkaRule> {
        const ALL: &[&str] = &["Read", "Write", "DescribeConfigs", "Create", "Alter"];
        const READ: &[&str] = &["Read", "DescribeConfigs"];
        let own = at_core(site, "");
        let everybodys = [topic::ASSET_BROADCAST, topic::ASSET_PREVIEW, topic::LINK_PATHS];
        let everybodys = everybodys.iter().map(|&name| name.to_owned());
        let read = everybodys.chain(self.down.iter().cloned());
        let groups = std::iter::once("link.reader".to_owned()).chain(self.groups.iter().cloned());
        [
            (ALL, Resource::TopicsFrom(own.clone())),
            (&["Write"], Resource::TransactionalIdsFrom(own)),
        ]
        .into_iter()
        .chain(read.map(|name| (READ, Resource::Topic(name))))
        .chain(self.up.iter().map(|name| (ALL, Resource::Topic(name.clone()))))
        .chain(groups.map(|name| (&["Read"][..], Resource::Group(name))))
        .map(|(operations, resource)| KafkaRule {
            principal: principal.to_owned(),
            operations,
            resource,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_commands() {
        let needs = KafkaNeeds {
            down: vec!["news".into()],
            ..KafkaNeeds::default()
        };
        let site: SiteId = "berlin".parse().unwrap();
        let rules = needs.rules(&site, &kafka_principal(&site));
        let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            rules[0],
            "kafka-acls --add --allow-principal User:CN=berlin --operation Read --operation Write --operation \
             DescribeConfigs --operation Create --operation Alter --topic berlin. --resource-pattern-type prefixed"
        );
        let news = "kafka-acls --add --allow-principal User:CN=berlin --operation Read --operation DescribeConfigs --topic news";
        assert!(rules.iter().any(|rule| rule == news), "{rules:#?}");
    }
}
