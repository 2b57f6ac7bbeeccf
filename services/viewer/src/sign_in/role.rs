//! Roles, and the rights that each has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::Kind;

/// What a person is at this site. Everybody who is signed in may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Looks.
    Viewer,
    /// Asks for assets at an edge, and says when bytes move.
    Field,
    /// Decides at the core what is offered, and for how long.
    Analyst,
    /// Does everything.
    Operator,
}

impl Role {
    const ALL: [Self; 4] = [Self::Viewer, Self::Field, Self::Analyst, Self::Operator];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Field => "field",
            Self::Analyst => "analyst",
            Self::Operator => "operator",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    pub(crate) fn has(self, right: Right) -> bool {
        use Right::{Audit, Evict, Link, Mirror, Request, Withdraw};
        match self {
            Self::Viewer => false,
            Self::Field => matches!(right, Request | Mirror | Link | Evict | Audit),
            Self::Analyst => matches!(right, Withdraw | Audit),
            Self::Operator => true,
        }
    }
}

/// What takes more than being signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Request assets, and cancel requests.
    Request,
    /// Start and stop the mirror.
    Mirror,
    /// Pause and resume the link.
    Link,
    /// Delete an asset's bytes at an edge.
    Evict,
    /// Withdraw assets, and set when they expire.
    Withdraw,
    /// Start and stop services, and set what they log.
    Services,
    /// Send dead letters again.
    DeadLetters,
    /// Make and delete topics.
    Topics,
    /// Enrol edges, and revoke them.
    Sites,
    /// See and change users, and make one-time links.
    Users,
    /// Connect an edge to its core.
    SetUp,
    /// Read who did what.
    Audit,
}

impl Right {
    const ALL: [Self; 12] = [
        Self::Request,
        Self::Mirror,
        Self::Link,
        Self::Evict,
        Self::Withdraw,
        Self::Services,
        Self::DeadLetters,
        Self::Topics,
        Self::Sites,
        Self::Users,
        Self::SetUp,
        Self::Audit,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Mirror => "mirror",
            Self::Link => "link",
            Self::Evict => "evict",
            Self::Withdraw => "withdraw",
            Self::Services => "services",
            Self::DeadLetters => "dead_letters",
            Self::Topics => "topics",
            Self::Sites => "sites",
            Self::Users => "users",
            Self::SetUp => "set_up",
            Self::Audit => "audit",
        }
    }

    /// The only kind of site where it means something.
    fn kind(self) -> Option<Kind> {
        match self {
            Self::Request | Self::Mirror | Self::Link | Self::Evict | Self::SetUp => Some(Kind::Edge),
            Self::Withdraw | Self::Sites => Some(Kind::Core),
            Self::Services | Self::DeadLetters | Self::Topics | Self::Users | Self::Audit => None,
        }
    }

    /// What a role may do at a site of this kind.
    pub(crate) fn of(role: Role, kind: Kind) -> Vec<&'static str> {
        let here = |right: &Self| right.kind().is_none_or(|only| only == kind) && role.has(*right);
        Self::ALL.into_iter().filter(here).map(Self::as_str).collect()
    }

    /// The roles that have it, in words.
    pub(crate) fn roles(self) -> String {
        let roles = Role::ALL.into_iter().filter(|role| role.has(self));
        roles.map(Role::as_str).collect::<Vec<_>>().join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_the_rights_of_its_work_where_it_works() {
        assert!(Right::of(Role::Viewer, Kind::Edge).is_empty());
        let field = ["request", "mirror", "link", "evict", "audit"];
        assert_eq!(Right::of(Role::Field, Kind::Edge), field);
        assert_eq!(Right::of(Role::Analyst, Kind::Core), ["withdraw", "audit"]);
        assert_eq!(Right::of(Role::Operator, Kind::Core).len(), 7);
        assert_eq!(Right::of(Role::Operator, Kind::Edge).len(), 10);
        assert_eq!(Right::Link.roles(), "field or operator");
    }
}
