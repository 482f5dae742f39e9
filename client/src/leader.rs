//! Leader election on a Lease: at most one of several equal components works.
//!
//! As client-go: a lease of 15 s, renewed every 2 s, given up when it could not be renewed for 10 s, released on
//! shutdown. Those who wait do not poll: they watch the Lease and wake when it is released or its time is over.
//! Invariant: the work is stopped before anybody else may believe that the lease has expired.

use std::future::Future;
use std::time::Duration;

use api::ObjectKey;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use process::{Clock, Rng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Change, Error, Informers, WatchConfig};

const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);
const JITTER: f64 = 0.2;
/// A lease that ran out so long ago by anybody's clock belongs to a cluster that was stopped: no need to watch it run out
/// again. Clocks that differ by more than this break certificates before they break this.
const LONG_OVER: Duration = Duration::from_secs(60);

/// One candidate.
#[derive(Clone)]
pub struct LeaderElection {
    /// The API.
    pub client: kube::Client,
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who this is; must differ between candidates.
    pub identity: String,
    /// The time written into the Lease.
    pub clock: Clock,
    /// Jitter of the retries.
    pub rng: Rng,
}

/// How a term of leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Shutdown was asked for; the Lease has been released.
    Shutdown,
    /// The Lease could not be renewed or somebody else has it. The process should end and start anew.
    Lost,
    /// The work ended by itself; the Lease has been released.
    WorkDone,
}

impl LeaderElection {
    /// Waits to become the leader, then runs the work. The work's token is cancelled on shutdown and when the lease is
    /// lost; the work should then end soon.
    pub async fn run<W, F>(self, token: CancellationToken, work: W) -> Ended
    where
        W: FnOnce(CancellationToken) -> F,
        F: Future<Output = ()>,
    {
        let acquired = tokio::select! {
            biased;
            () = token.cancelled() => return Ended::Shutdown,
            lease = self.acquire() => lease,
        };
        tracing::info!(lease = %self.name, identity = %self.identity, "became leader");
        let term = token.child_token();
        let work = work(term.clone());
        tokio::pin!(work);
        let ended = tokio::select! {
            biased;
            () = token.cancelled() => Ended::Shutdown,
            () = self.keep(acquired) => Ended::Lost,
            () = &mut work => Ended::WorkDone,
        };
        term.cancel();
        match ended {
            Ended::Lost => tracing::error!(lease = %self.name, "lost the leader's lease"),
            Ended::Shutdown => {
                work.await;
                self.release().await;
            }
            Ended::WorkDone => self.release().await,
        }
        ended
    }

    /// Until this candidate holds the Lease.
    async fn acquire(&self) -> Lease {
        let mut informers = Informers::new(self.rng.clone());
        let only = WatchConfig::default().fields(&format!("metadata.name={}", self.name));
        let leases = informers.start(self.api(), only, Vec::new());
        let (changed, mut changes) = watch::channel(Instant::now());
        leases.on_change(move |_: Change<Lease>| {
            changed.send_replace(Instant::now());
        });
        leases.synced().await;
        let key = ObjectKey::new(&self.namespace, &self.name);
        loop {
            let seen = *changes.borrow_and_update();
            let lease = leases.get(&key);
            let free_at = lease.as_deref().map_or(seen, |lease| self.free_at(lease, seen));
            if free_at <= Instant::now() {
                match self.take(lease.as_deref()).await {
                    Ok(lease) => return lease,
                    Err(error) if error.is_conflict() || error.is_already_exists() => {}
                    Err(error) => tracing::warn!(lease = %self.name, %error, "taking the leader's lease"),
                }
                // Somebody was faster, or the API is in trouble: wait for the change, but not for ever.
                tokio::select! {
                    biased;
                    _ = changes.changed() => {}
                    () = sleep(self.rng.jitter(RETRY_PERIOD, JITTER)) => {}
                }
                continue;
            }
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                () = sleep_until(free_at) => {}
            }
        }
    }

    /// When the Lease may be taken. Measured from when its last change was seen here, because clocks differ.
    fn free_at(&self, lease: &Lease, seen: Instant) -> Instant {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return seen;
        }
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        let duration = Duration::from_secs(seconds);
        let age =
            spec.renew_time.and_then(|renewed| Duration::try_from(self.clock.now().duration_since(renewed.0)).ok());
        if age.is_some_and(|age| age > duration + LONG_OVER) { seen } else { seen + duration }
    }

    async fn take(&self, found: Option<&Lease>) -> Result<Lease, Error> {
        let Some(found) = found else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return Ok(self.api().create(&PostParams::default(), &lease).await?);
        };
        let lease = Lease { spec: Some(self.spec(found.spec.as_ref())), ..found.clone() };
        Ok(self.api().replace(&self.name, &PostParams::default(), &lease).await?)
    }

    fn spec(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let old = old.cloned().unwrap_or_default();
        let now = MicroTime(self.clock.now());
        let mine = old.holder_identity.as_deref() == Some(&self.identity);
        let transitions = old.lease_transitions.unwrap_or_default() + i32::from(!mine && old.renew_time.is_some());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if mine { old.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            preferred_holder: old.preferred_holder,
            strategy: old.strategy,
        }
    }

    /// Renews the Lease until that fails for too long or somebody else has it.
    async fn keep(&self, mut lease: Lease) {
        let mut renewed = Instant::now();
        loop {
            sleep(RETRY_PERIOD).await;
            let left = (renewed + RENEW_DEADLINE).saturating_duration_since(Instant::now());
            match timeout(left, self.take(Some(&lease))).await {
                Ok(Ok(newer)) => {
                    lease = newer;
                    renewed = Instant::now();
                }
                Ok(Err(error)) if error.is_conflict() || error.is_not_found() => match self.reread().await {
                    Ok(Some(newer)) if self.is_mine(&newer) => lease = newer,
                    Ok(_) => return,
                    Err(error) => tracing::warn!(lease = %self.name, %error, "reading the leader's lease"),
                },
                Ok(Err(error)) => tracing::warn!(lease = %self.name, %error, "renewing the leader's lease"),
                Err(_) => return,
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Lets the next candidate start at once. Failing is no harm: the lease runs out.
    async fn release(&self) {
        let released = async {
            let Some(lease) = self.reread().await?.filter(|lease| self.is_mine(lease)) else { return Ok(()) };
            let spec = LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                ..self.spec(lease.spec.as_ref())
            };
            let lease = Lease { spec: Some(spec), ..lease };
            self.api().replace(&self.name, &PostParams::default(), &lease).await?;
            Ok::<_, Error>(())
        };
        match timeout(RETRY_PERIOD, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(lease = %self.name, %error, "releasing the leader's lease"),
            Err(_) => tracing::debug!(lease = %self.name, "releasing the leader's lease took too long"),
        }
    }

    async fn reread(&self) -> Result<Option<Lease>, Error> {
        Ok(self.api().get_opt(&self.name).await?)
    }

    fn is_mine(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()) == Some(&self.identity)
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
