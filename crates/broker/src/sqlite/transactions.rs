//! Transactions: one savepoint of the writer's transaction that waits for its sealing records.
//!
//! The writer holds still between `begin` and `commit`, which are a moment apart: the caller makes the sealing records
//! from the batch's places and nothing else. It waits a few seconds at most, then the transaction is undone.

use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::Shared;
use crate::engine::TransactionsEngine;
use crate::error::{Error, Result};
use crate::record::{Outgoing, Placement};

const SEAL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct SqliteTransactions {
    shared: Arc<Shared>,
    transactional_id: String,
    epoch: i64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    seal: blocking::Sender<Vec<Outgoing>>,
    done: oneshot::Receiver<Result<Vec<Placement>>>,
}

impl SqliteTransactions {
    pub(super) async fn init(shared: Arc<Shared>, transactional_id: &str) -> Result<Self> {
        let id = transactional_id.to_owned();
        let epoch = shared
            .threads
            .write(0, move |store| store.next_epoch(&id))
            .await?;
        Ok(Self {
            shared,
            transactional_id: transactional_id.into(),
            epoch,
            open: None,
        })
    }

    fn error(&self, operation: &'static str, error: Error) -> Error {
        match error {
            Error::Send { source, .. } => Error::Transaction {
                operation,
                transactional_id: self.transactional_id.clone(),
                source,
            },
            other => other,
        }
    }
}

#[async_trait]
impl TransactionsEngine for SqliteTransactions {
    async fn begin(&mut self, batch: Vec<Outgoing>) -> Result<Vec<Placement>> {
        let (id, epoch) = (self.transactional_id.clone(), self.epoch);
        let (place, places) = oneshot::channel();
        let (seal, sealed) = blocking::channel::<Vec<Outgoing>>();
        let bytes = batch.iter().map(Outgoing::size).sum();
        let done = self
            .shared
            .threads
            .submit(bytes, move |store| {
                store.check_epoch(&id, epoch)?;
                let placements = store.append(&batch)?;
                drop(batch);
                let undone = |source: &'static str| Error::Transaction {
                    operation: "commit",
                    transactional_id: id.clone(),
                    source: source.into(),
                };
                place
                    .send(placements)
                    .map_err(|_| undone("the transaction was given up"))?;
                let sealed = sealed
                    .recv_timeout(SEAL_LIMIT)
                    .map_err(|_| undone("the transaction was not finished"))?;
                store.append(&sealed)
            })
            .await?;
        match places.await {
            Ok(placements) => {
                self.open = Some(Open { seal, done });
                Ok(placements)
            }
            // It failed before it had places: the outcome tells why.
            Err(_) => match done.await {
                Ok(Err(error)) => Err(self.error("send", error)),
                _ => Err(Error::Closed),
            },
        }
    }

    async fn commit(&mut self, sealed: Vec<Outgoing>) -> Result<Vec<Placement>> {
        let Some(Open { seal, done }) = self.open.take() else {
            return Err(Error::Closed);
        };
        // If the writer has given up, the outcome tells why.
        let _gone = seal.send(sealed);
        done.await
            .map_err(|_| Error::Closed)?
            .map_err(|error| self.error("commit", error))
    }
}
