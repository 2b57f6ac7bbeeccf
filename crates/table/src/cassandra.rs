//! The engine for Apache Cassandra, or what speaks its protocol.
//!
//! Every statement is built from a definition, prepared once and kept. Every write carries its timestamp, so all of them
//! are idempotent: what fails for a reason that may pass is tried again a few times, with a pause the driver itself cannot
//! make, and then returned as retryable. Writes of one partition travel in unlogged batches, which Cassandra applies as one
//! mutation. Few connections, few requests on their way: it is made to be small.

mod bound;
mod migrate;
mod patience;
mod statements;
mod tls;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::client::PoolSize;
use scylla::client::SelfIdentity;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session as Driver;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::PagingState;
use scylla::statement::Consistency as Level;
use scylla::statement::batch::{Batch, BatchType};
use scylla::value::Row as Found;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::plan::{Change, Mutation, Scan};
use crate::row::Row;
use crate::settings::{Consistency, Settings};
use patience::{Fault, patiently, refused};
use statements::Statements;

/// How many rows, and bytes, one batch carries.
const BATCH: (usize, usize) = (100, 64 << 10);
/// How many batches of one call are on their way at once.
const BATCHES: usize = 16;

/// An open session with a cluster.
#[derive(Debug)]
pub(crate) struct Cassandra {
    driver: Driver,
    keyspace: String,
    replication: BTreeMap<String, u32>,
    statements: Statements,
    permits: Semaphore,
    /// How long one attempt may take.
    limit: Duration,
}

impl Cassandra {
    pub(crate) async fn open(
        settings: &Settings,
        hosts: Vec<String>,
        keyspace: String,
        client: &str,
    ) -> Result<Self> {
        let driver = connect(settings, &hosts, &keyspace, client).await?;
        Ok(Self {
            driver,
            keyspace,
            replication: settings.replication.clone(),
            statements: Statements::default(),
            permits: Semaphore::new(settings.concurrency),
            limit: settings.request_timeout,
        })
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let cql = "SELECT key FROM system.local WHERE key = ?";
        self.run("ping", "system.local", || async {
            let statement = self.statements.prepared(&self.driver, cql).await?;
            self.driver
                .execute_unpaged(&statement, ("local",))
                .await
                .map(drop)
                .map_err(Fault::from)
        })
        .await
    }

    /// Writes in batches by partition, in no order: timestamps decide, not arrival.
    pub(crate) async fn apply(&self, operation: &'static str, mutations: Vec<Mutation>) -> Result<()> {
        let batches = stream::iter(batches(mutations));
        let sent = batches.map(|batch| async move { self.send(operation, batch).await });
        sent.buffer_unordered(BATCHES).try_collect().await
    }

    async fn send(&self, operation: &'static str, batch: Vec<Mutation>) -> Result<()> {
        let Some(first) = batch.first() else { return Ok(()) };
        let values = batch.iter().map(bound::mutation).collect::<Vec<_>>();
        self.run(operation, &first.definition.name, || async {
            let mut statements = Vec::with_capacity(batch.len());
            for mutation in &batch {
                let cql = match mutation.change {
                    Change::Upsert { .. } => statements::insert(&self.keyspace, &mutation.definition),
                    Change::Delete => statements::delete(&self.keyspace, &mutation.definition),
                };
                statements.push(self.statements.prepared(&self.driver, &cql).await?);
            }
            if let ([statement], [values]) = (statements.as_slice(), values.as_slice()) {
                return self
                    .driver
                    .execute_unpaged(statement, values)
                    .await
                    .map(drop)
                    .map_err(Fault::from);
            }
            let mut whole = Batch::new(BatchType::Unlogged);
            whole.set_is_idempotent(true);
            statements
                .into_iter()
                .for_each(|statement| whole.append_statement(statement));
            self.driver
                .batch(&whole, values.as_slice())
                .await
                .map(drop)
                .map_err(Fault::from)
        })
        .await
    }

    pub(crate) async fn scan(&self, operation: &'static str, scan: Scan) -> Result<Vec<Row>> {
        let cql = statements::select(&self.keyspace, &scan);
        let values = bound::scan(&scan);
        let mut rows = Vec::new();
        let mut paging = PagingState::start();
        loop {
            let page = self.run(operation, &scan.definition.name, || async {
                let statement = self.statements.prepared(&self.driver, &cql).await?;
                let page = self
                    .driver
                    .execute_single_page(&statement, &values, paging.clone())
                    .await;
                page.map_err(Fault::from)
            });
            let (page, next) = page.await?;
            let malformed = |source| Error::Operation {
                operation,
                table: scan.definition.name.clone(),
                retryable: false,
                source,
            };
            let page = page.into_rows_result().map_err(|error| malformed(error.into()))?;
            for row in page.rows::<Found>().map_err(|error| malformed(error.into()))? {
                let row = row.map_err(|error| malformed(error.into()))?;
                let values = row
                    .columns
                    .into_iter()
                    .map(bound::value)
                    .collect::<Result<Vec<_>, _>>();
                rows.push(Row::new(
                    scan.names.clone(),
                    values.map_err(|error| malformed(error.into()))?,
                ));
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(state) if rows.len() < scan.limit => paging = state,
                _ => return Ok(rows),
            }
        }
    }

    /// Runs one idempotent request, within the bound of what may be on its way, patiently.
    async fn run<T, F>(&self, operation: &'static str, table: &str, work: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.map_err(|_| Error::Stopped)?;
        let outcome = Box::pin(patiently(self.limit, work)).await;
        outcome.map_err(|fault| Error::Operation {
            operation,
            table: table.to_owned(),
            retryable: fault.transient,
            source: fault.source,
        })
    }
}

/// Groups writes by partition, and cuts the groups into batches within bounds.
fn batches(mutations: Vec<Mutation>) -> Vec<Vec<Mutation>> {
    let mut open = BTreeMap::<(String, Vec<Vec<u8>>), (Vec<Mutation>, usize)>::new();
    let mut full = Vec::new();
    for mutation in mutations {
        let partition = mutation
            .partition()
            .iter()
            .map(crate::value::Value::wire)
            .collect();
        let (batch, bytes) = open
            .entry((mutation.definition.name.clone(), partition))
            .or_default();
        if batch.len() == BATCH.0 || (*bytes + mutation.size() > BATCH.1 && !batch.is_empty()) {
            full.push(std::mem::take(batch));
            *bytes = 0;
        }
        *bytes += mutation.size();
        batch.push(mutation);
    }
    full.extend(open.into_values().map(|(batch, _)| batch));
    full
}

/// Tries until a node answers or the time is over.
async fn connect(settings: &Settings, hosts: &[String], keyspace: &str, client: &str) -> Result<Driver> {
    let within = settings.connect_timeout;
    let deadline = Instant::now() + within;
    loop {
        let builder = builder(settings, hosts, keyspace, client)?;
        let attempt = tokio::time::timeout_at(deadline, Box::pin(builder.build())).await;
        let source = match attempt {
            Ok(Ok(driver)) => return Ok(driver),
            Ok(Err(error)) if refused(&error) => {
                return Err(Error::Refused {
                    hosts: hosts.join(","),
                    source: error.into(),
                });
            }
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        let pause = Duration::from_millis(500);
        if Instant::now() + pause >= deadline {
            return Err(Error::Unreachable {
                hosts: hosts.join(","),
                within,
                source,
            });
        }
        tracing::debug!(error = %source, "no cassandra node answers yet");
        tokio::time::sleep(pause).await;
    }
}

fn builder(settings: &Settings, hosts: &[String], keyspace: &str, client: &str) -> Result<SessionBuilder> {
    let profile = ExecutionProfile::builder()
        .consistency(level(settings.consistency))
        .request_timeout(Some(settings.request_timeout))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(hosts)
        .connection_timeout(settings.connect_timeout.min(Duration::from_secs(5)))
        // A frozen node keeps its sockets: this is what notices.
        .keepalive_interval(Duration::from_secs(10))
        .keepalive_timeout(Duration::from_secs(5))
        .default_execution_profile_handle(profile.into_handle())
        // One connection a node, and no more of the schema than where our rows live.
        .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
        .keyspaces_to_fetch([keyspace])
        .fetch_full_schema_metadata(false)
        .custom_identity(SelfIdentity::new().with_application_name(client.to_owned()));
    if let Some(datacenter) = &settings.datacenter {
        builder = builder.prefer_datacenter(datacenter.clone());
    }
    if let Some(username) = &settings.username {
        builder = builder.user(username, settings.secret()?.expose());
    }
    if settings.tls.enabled() {
        builder = builder.tls_context(Some(tls::config(&settings.tls)?));
    }
    Ok(builder)
}

fn level(consistency: Consistency) -> Level {
    match consistency {
        Consistency::One => Level::One,
        Consistency::LocalOne => Level::LocalOne,
        Consistency::LocalQuorum => Level::LocalQuorum,
        Consistency::Quorum => Level::Quorum,
        Consistency::EachQuorum => Level::EachQuorum,
        Consistency::All => Level::All,
    }
}
