//! The tables' definitions, numbered and applied in order: one statement per file in `schemas/cql/`.

/// One numbered step of a site's table definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number and name, as `001_edge_assets`.
    pub name: &'static str,
    /// One CQL statement, with comments.
    pub cql: &'static str,
}

/// The one partition of table `mirror_orders`.
pub const MIRROR_ORDERS: &str = "edge";
/// The most rows of table `mirror_orders`.
pub const MIRROR_ORDERS_MOST: usize = 1000;

macro_rules! migration {
    ($name:literal) => {
        Migration {
            name: $name,
            cql: include_str!(concat!("../../../schemas/cql/", $name, ".cql")),
        }
    };
}

/// The tables of an edge.
pub const EDGE_TABLES: &[Migration] = &[
    migration!("001_edge_assets"),
    migration!("002_edge_requests"),
    migration!("007_users"),
    migration!("008_sessions"),
    migration!("009_audit"),
    migration!("010_edge_assets_evicted"),
    migration!("011_edge_mirror_orders"),
    migration!("012_edge_assets_pinned"),
    migration!("013_edge_assets_displaced"),
];

/// The tables of the core.
pub const CORE_TABLES: &[Migration] = &[
    migration!("003_core_published"),
    migration!("004_core_deliveries"),
    migration!("005_core_site_requests"),
    migration!("006_core_sites"),
    migration!("007_users"),
    migration!("008_sessions"),
    migration!("009_audit"),
];
