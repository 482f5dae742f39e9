//! Leases for keys that expire. Keys that are written within a short while share one, as in upstream: a lease for each Event would
//! cost etcd more than the Event. The price is that such a key lives up to that while longer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Error, LeaseClient};
use tokio::time::Instant;

/// How long a lease is given to new keys, at most and in parts of the time to live.
const LONGEST_SHARING: u64 = 60;
const SHARING_DIVISOR: u64 = 20;
/// How many keys may have the same lease: they expire in one transaction.
const KEYS: u32 = 1000;

/// See the module's documentation.
pub(super) struct Leases {
    client: LeaseClient,
    /// By seconds to live.
    shared: Mutex<BTreeMap<u64, Lease>>,
}

struct Lease {
    id: i64,
    shared_until: Instant,
    keys: u32,
}

impl Leases {
    /// No leases yet.
    pub(super) fn new(client: LeaseClient) -> Self {
        Self { client, shared: Mutex::default() }
    }

    /// A lease under which a key lives at least that long.
    pub(super) async fn lasting(&self, ttl: Duration) -> Result<i64, Error> {
        let seconds = ttl.as_secs().max(1);
        if let Some(id) = self.share(seconds) {
            return Ok(id);
        }
        let sharing = (seconds / SHARING_DIVISOR).min(LONGEST_SHARING);
        let granted = self.client.clone().grant(i64::try_from(seconds + sharing).unwrap_or(i64::MAX), None).await?;
        let lease = Lease { id: granted.id(), shared_until: Instant::now() + Duration::from_secs(sharing), keys: 1 };
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(seconds, lease);
        Ok(granted.id())
    }

    /// Gives no known lease to a new key.
    pub(super) fn forget(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn share(&self, seconds: u64) -> Option<i64> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let lease =
            shared.get_mut(&seconds).filter(|lease| lease.shared_until > Instant::now() && lease.keys < KEYS)?;
        lease.keys += 1;
        Some(lease.id)
    }
}
