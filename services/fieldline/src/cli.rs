//! What can be typed after `fieldline`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use common::chassis::ByteSize;
use common::schemas::{AssetId, SiteId};

use crate::linking::Link;

/// An edge-to-core data pipeline: run sites, make what they need, and look into those that run.
#[derive(Debug, Parser)]
#[command(name = "fieldline", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a core and its edges in this process, on embedded engines, with sample assets.
    Demo(Demo),
    /// Run all services of one or more sites in this process.
    Run(Sites),
    /// Make the topics, tables and volume of a site; twice changes nothing.
    Init(Init),
    /// Make a certificate authority and certificates.
    Certs(Certs),
    /// Enrol an edge at the core, or cut a lost one off.
    #[command(subcommand)]
    Site(Site),
    /// Create, list, describe and delete topics.
    #[command(subcommand)]
    Topics(Topics),
    /// Print a topic's records, decoded.
    Tail(Tail),
    /// Say what runs at a site and what is wrong.
    Status(Api),
    /// List assets, or show one.
    Assets(Assets),
    /// Ask the core for assets (at an edge).
    Request(AssetIds),
    /// Take requests back (at an edge).
    Cancel(AssetIds),
    /// Say at the core that assets are offered no longer.
    Withdraw(Withdraw),
    /// Fetch the bytes of what was requested (at an edge).
    #[command(subcommand)]
    Mirror(Mirror),
    /// Look at the link, pause and resume it, and set what it may use (at an edge).
    #[command(subcommand)]
    Link(Link),
    /// Carry topics and requested assets on a stick, where there is no link.
    #[command(subcommand)]
    Bundle(Bundle),
    /// Stop and start a service.
    #[command(subcommand)]
    Service(Service),
    /// Look at records that could not be processed, and send them again.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Print a one-time link that signs in on the site's page.
    SignIn(SignIn),
    /// Add, list, change and remove the people who may sign in.
    #[command(subcommand)]
    User(User),
    /// Say who asked for what, newest first.
    Audit(Audit),
}

/// Where the running site is, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct Api {
    /// Address of the site's viewer.
    #[arg(long, env = "FIELDLINE_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// The site's token file; found by itself for a demo, and for a site of this machine in its usual places.
    #[arg(long, env = "FIELDLINE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The name that is kept with what is asked.
    #[arg(long, env = "USER", hide_env_values = true)]
    pub(crate) by: Option<String>,
    /// Print JSON for scripts instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Api {
    /// Who asks, as this machine knows them.
    pub(crate) fn by(&self) -> Option<&str> {
        self.by.as_deref().filter(|name| !name.is_empty())
    }
}

#[derive(Debug, Args)]
pub(crate) struct SignIn {
    /// Whom the link signs in; the name of who runs this command unless told.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// As what: viewer, field, analyst or operator; a user's own role, or operator for who runs this command.
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// The page's address as a browser reaches it, where that is not --url.
    #[arg(long)]
    pub(crate) page: Option<String>,
    #[command(flatten)]
    pub(crate) api: Api,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user.
    Add {
        /// The name, in lower case.
        name: String,
        /// What they may do: viewer, field, analyst or operator.
        #[arg(long)]
        role: String,
        /// A file with the password, or - for standard input; one is made and printed without it.
        #[arg(long)]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        api: Api,
    },
    /// List the users.
    List(Api),
    /// Change a user, whose sessions end.
    Set {
        /// The name.
        name: String,
        /// What they may do from now on.
        #[arg(long)]
        role: Option<String>,
        /// A file with the new password, or - for standard input.
        #[arg(long, conflicts_with = "new_password")]
        password_file: Option<PathBuf>,
        /// Make a new password and print it.
        #[arg(long)]
        new_password: bool,
        /// They may no longer sign in.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// They may sign in again.
        #[arg(long)]
        enable: bool,
        #[command(flatten)]
        api: Api,
    },
    /// Remove a user, whose sessions end.
    Remove {
        /// The name.
        name: String,
        #[command(flatten)]
        api: Api,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only what this user asked.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only this action, as asset.request.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only entries with this text.
    #[arg(long, short)]
    pub(crate) query: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) api: Api,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Directory for everything the demo stores; kept from run to run.
    #[arg(long, default_value = "data/demo")]
    pub(crate) dir: PathBuf,
    /// How many edges.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) edges: u16,
    /// Forget what an earlier run stored.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Port of the core's viewer; the edges take the ports after it.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Port of the core's depot.
    #[arg(long, default_value_t = 7443)]
    pub(crate) depot_port: u16,
    /// Port at which feed serves the sample; fixed, so that links survive a restart.
    #[arg(long, default_value_t = 8079)]
    pub(crate) feed_port: u16,
    /// A catalogue to announce instead of the built-in sample, as in the setting feed.catalogue.
    #[arg(long)]
    pub(crate) catalogue: Option<String>,
    /// Extra settings for the core, merged over the demo's own (TOML).
    #[arg(long)]
    pub(crate) core_config: Option<PathBuf>,
    /// An edge that starts without its enrolment, to try the set-up on its page; may be repeated.
    #[arg(long, value_name = "EDGE")]
    pub(crate) not_connected: Vec<SiteId>,
    /// Print where the sites are as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sites {
    /// Settings file of a core to run; may be repeated.
    #[arg(long = "core", value_name = "FILE")]
    pub(crate) cores: Vec<PathBuf>,
    /// Settings file of an edge to run; may be repeated.
    #[arg(long = "edge", value_name = "FILE")]
    pub(crate) edges: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) sites: Sites,
    /// Partitions of each topic that leaves the number open.
    #[arg(long, default_value_t = 3)]
    pub(crate) partitions: i32,
    /// Replicas of each topic.
    #[arg(long, default_value_t = 1)]
    pub(crate) replication: i32,
    /// An edge to enrol at the core as `site add` does; its certificate is <certs>/sites/<site>.crt.
    #[arg(long, value_name = "SITE", requires = "certs")]
    pub(crate) enrol: Vec<SiteId>,
    /// Directory of the certificates.
    #[arg(long)]
    pub(crate) certs: Option<PathBuf>,
    /// Directory to write the enrolment of each enrolled edge to, as <site>.enrolment: give it to that site alone.
    #[arg(long, value_name = "DIR", requires_all = ["enrol", "broker", "depot"])]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) core: CoreAddresses,
}

/// Where an edge finds the core.
#[derive(Debug, Args)]
pub(crate) struct CoreAddresses {
    /// The core's broker as the edge reaches it: kafka://host:9093, or kafka+plain:// where the way needs no TLS.
    #[arg(long, value_name = "URL", requires = "out")]
    pub(crate) broker: Option<String>,
    /// The core's depot as the edge reaches it: https://host:7443.
    #[arg(long, value_name = "URL", requires = "out")]
    pub(crate) depot: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Certs {
    /// Directory of the authority and all it issues; keep its ca.key off every server.
    #[arg(long, default_value = "certs")]
    pub(crate) dir: PathBuf,
    /// A host name or address of the depot (or a broker); may be repeated. Writes servers/<first HOST>.crt and .key.
    #[arg(long = "server", value_name = "HOST")]
    pub(crate) servers: Vec<String>,
    /// An edge to make a certificate for; may be repeated.
    #[arg(long = "site", value_name = "SITE")]
    pub(crate) sites: Vec<SiteId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Site {
    /// Make an edge's certificate, its topics at the core, and its right to use the depot.
    Add {
        /// The edge.
        site: SiteId,
        /// Directory of the certificate authority.
        #[arg(long, default_value = "certs")]
        certs: PathBuf,
        /// Write the edge's enrolment to this file: all that the site needs to connect, its key included.
        #[arg(long, value_name = "FILE", requires_all = ["broker", "depot"])]
        out: Option<PathBuf>,
        #[command(flatten)]
        core: CoreAddresses,
        #[command(flatten)]
        api: Api,
    },
    /// End an edge's rights at once, whatever certificate it shows.
    Revoke {
        /// The edge.
        site: SiteId,
        /// Why; the edge is told.
        #[arg(long, default_value = "revoked by the operator")]
        reason: String,
        #[command(flatten)]
        api: Api,
    },
    /// List the edges that the core knows.
    List(Api),
    /// Print the commands that let an edge do at a Kafka with access rules what its link does there, and no more.
    Rules {
        /// The edge.
        site: SiteId,
        /// Where that Kafka is, for whoever runs the commands.
        #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
        bootstrap_server: String,
        /// What that Kafka calls the edge, if not by its certificate: `User:NAME`.
        #[arg(long, value_name = "USER")]
        principal: Option<String>,
        /// A topic that a route of the edge's own brings down; may be repeated.
        #[arg(long, value_name = "TOPIC")]
        down: Vec<String>,
        /// A topic that a route of the edge's own takes up to a name that does not begin with the edge's; may be repeated.
        #[arg(long, value_name = "TOPIC")]
        up: Vec<String>,
        /// A consumer group that `link offsets` is to move; may be repeated.
        #[arg(long, value_name = "GROUP")]
        group: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// List the site's topics.
    List(Api),
    /// Show a topic's partitions, offsets and settings.
    Describe {
        /// The topic.
        topic: String,
        #[command(flatten)]
        api: Api,
    },
    /// Create a topic.
    Create {
        /// The topic.
        topic: String,
        /// Partitions.
        #[arg(long, default_value_t = 3)]
        partitions: i32,
        /// Replicas of each partition.
        #[arg(long, default_value_t = 1)]
        replication: i32,
        /// Keep the newest record of each key instead of the newest days.
        #[arg(long)]
        compacted: bool,
        #[command(flatten)]
        api: Api,
    },
    /// Delete a topic and all its records.
    Delete {
        /// The topic.
        topic: String,
        #[command(flatten)]
        api: Api,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The topic.
    pub(crate) topic: String,
    /// Where to begin: beginning, end, or an offset (with --partition).
    #[arg(long, default_value = "beginning")]
    pub(crate) from: String,
    /// Only this partition.
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Stop after so many records.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Wait for more at the end.
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) api: Api,
}

#[derive(Debug, Args)]
pub(crate) struct Assets {
    /// Show this asset alone.
    pub(crate) asset: Option<AssetId>,
    /// Only assets in this state.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Only assets whose title has this text.
    #[arg(long, short)]
    pub(crate) query: Option<String>,
    /// At most so many; 0 means all.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) api: Api,
}

#[derive(Debug, Args)]
pub(crate) struct AssetIds {
    /// The assets.
    #[arg(required = true)]
    pub(crate) assets: Vec<AssetId>,
    #[command(flatten)]
    pub(crate) api: Api,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// The assets.
    #[arg(required = true)]
    pub(crate) assets: Vec<AssetId>,
    /// Why; every edge is told.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) api: Api,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mirror {
    /// Say what there is to fetch.
    Estimate(Api),
    /// Fetch everything that is ready, and show the progress.
    Start {
        /// Return at once instead of waiting for the end.
        #[arg(long)]
        detach: bool,
        #[command(flatten)]
        api: Api,
    },
    /// Stop after the chunks in hand.
    Stop(Api),
    /// Say how far it is.
    Status(Api),
    /// List what is to be fetched, in its order.
    Queue {
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        api: Api,
    },
    /// Say when an asset is fetched, also while others come.
    Order {
        /// The asset.
        asset: AssetId,
        /// first, up, down, last or usual; or a priority, as 5 (the highest comes first, none is 0).
        #[arg(allow_hyphen_values = true)]
        to: String,
        #[command(flatten)]
        api: Api,
    },
    /// Keep an asset's bytes here whatever the quota says.
    Pin {
        /// The asset.
        asset: AssetId,
        #[command(flatten)]
        api: Api,
    },
    /// Let an asset's room be given to others when the quota is reached.
    Unpin {
        /// The asset.
        asset: AssetId,
        #[command(flatten)]
        api: Api,
    },
    /// Delete an asset's bytes here; it can be requested again.
    Evict {
        /// The asset.
        asset: AssetId,
        #[command(flatten)]
        api: Api,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Bring the bundle on a stick up to date with what the other site has not got.
    Export {
        /// Settings file of this site.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The stick, or any directory.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The edge that it is for (at the core).
        #[arg(long)]
        site: Option<SiteId>,
        /// The most bytes that may be there in the end, as 8GB.
        #[arg(long)]
        max_size: Option<ByteSize>,
        /// From where on: `beginning`, or a receipt's file; from the receipt on the stick unless told.
        #[arg(long)]
        since: Option<String>,
        /// Print JSON for scripts instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Take in what is on a stick for this site; twice changes nothing.
    Import {
        /// Settings file of this site.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The stick, or any directory.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Records that no stick brings any more are written down as lost, and what follows is taken in.
        #[arg(long)]
        accept_loss: bool,
        /// Print JSON for scripts instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Say what is on a stick, from whom, and whether that can be trusted.
    Show {
        /// The stick, or any directory.
        directory: PathBuf,
        /// The authority's certificate, to check signatures by.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Read every file, and name those that are missing or damaged.
        #[arg(long)]
        files: bool,
        /// Print JSON for scripts instead of text.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Let a service work.
    Start {
        /// The service.
        service: String,
        /// A log level for it, as debug or feed=trace.
        #[arg(long)]
        log_level: Option<String>,
        #[command(flatten)]
        api: Api,
    },
    /// Let a service finish what it holds and wait.
    Stop {
        /// The service.
        service: String,
        #[command(flatten)]
        api: Api,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List them.
    List(Api),
    /// Send one to the topic it came from, once its cause is mended.
    Redrive {
        /// The dead letters' topic, as asset-pipeline.dead-letter.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        #[command(flatten)]
        api: Api,
    },
}
