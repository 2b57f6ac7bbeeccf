//! What the engine keeps in memory of each topic: where its partitions end, and who wants to know when they grow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::Notify;

/// A topic that exists.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) topic_id: i64,
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Arc<LivePartition>>,
    gone: Arc<AtomicBool>,
    waiters: Arc<Mutex<Vec<Weak<Notify>>>>,
}

/// A partition: its number in the file, and its end as committed.
#[derive(Debug)]
pub(super) struct LivePartition {
    pub(super) partition_id: i64,
    high: AtomicI64,
}

impl LivePartition {
    pub(super) fn new(partition_id: i64, high: i64) -> Self {
        Self {
            partition_id,
            high: AtomicI64::new(high),
        }
    }

    pub(super) fn high(&self) -> i64 {
        self.high.load(Ordering::Acquire)
    }
}

impl Live {
    pub(super) fn new(topic_id: i64, name: &str, partitions: Vec<LivePartition>) -> Self {
        Self {
            topic_id,
            name: name.into(),
            partitions: partitions.into_iter().map(Arc::new).collect(),
            gone: Arc::default(),
            waiters: Arc::default(),
        }
    }

    /// The same topic with more partitions: who has it as it was goes on with what they share.
    fn with(&self, more: Vec<LivePartition>) -> Self {
        let partitions = self.partitions.iter().cloned();
        Self {
            topic_id: self.topic_id,
            name: self.name.clone(),
            partitions: partitions.chain(more.into_iter().map(Arc::new)).collect(),
            gone: self.gone.clone(),
            waiters: self.waiters.clone(),
        }
    }

    pub(super) fn partition(&self, partition: i32) -> Option<&LivePartition> {
        self.partitions
            .get(usize::try_from(partition).ok()?)
            .map(AsRef::as_ref)
    }

    /// Wakes this one whenever the topic grows or ends.
    pub(super) fn wake(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.retain(|known| known.strong_count() > 0);
        if !waiters.iter().any(|known| known.as_ptr() == Arc::as_ptr(waiter)) {
            waiters.push(Arc::downgrade(waiter));
        }
    }

    pub(super) fn wake_all(&self) {
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in waiters.iter().filter_map(Weak::upgrade) {
            waiter.notify_one();
        }
    }

    /// Whether the topic was deleted.
    pub(super) fn gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn grow(&self, partition: i32, high: i64) {
        if let Some(partition) = self.partition(partition) {
            partition.high.fetch_max(high, Ordering::Release);
        }
    }
}

/// All topics by name.
#[derive(Debug, Default)]
pub(super) struct Topics(RwLock<HashMap<Arc<str>, Arc<Live>>>);

impl Topics {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Live>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    pub(super) fn insert(&self, live: Live) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(live.name.clone(), Arc::new(live));
    }

    /// Adds partitions to a topic.
    pub(super) fn widen(&self, name: &str, more: Vec<LivePartition>) {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = topics.get_mut(name) {
            *live = Arc::new(live.with(more));
        }
    }

    pub(super) fn remove(&self, name: &str) {
        let removed = self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        if let Some(live) = removed {
            live.gone.store(true, Ordering::Release);
            live.wake_all();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}
