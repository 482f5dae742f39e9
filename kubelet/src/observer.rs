//! Listens to the runtime, so that nothing needs to be asked again and again.
//!
//! Entry: [`watch`]. Invariants: everything is listed once per connection, after the stream of events has begun, so
//! nothing that happens between the two is missed; an event only says which pod to look at.

use std::sync::Arc;
use std::time::Duration;

use cri::v1::{ContainerEventType, GetEventsRequest};
use tokio_util::sync::CancellationToken;

use crate::runtime::{KnownPod, uid_and_view};
use crate::shared::Shared;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Wakes pods' workers when the runtime has news, until the token is cancelled.
pub async fn watch(shared: Arc<Shared>, token: CancellationToken) {
    let mut retry = FIRST_RETRY;
    loop {
        let outcome = tokio::select! {
            biased;
            () = token.cancelled() => return,
            outcome = follow(&shared) => outcome,
        };
        match outcome {
            Ok(()) => retry = FIRST_RETRY,
            Err(status) => {
                tracing::warn!(error = status.message(), "the runtime cannot be followed");
                retry = (retry * 2).min(LAST_RETRY);
            }
        }
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = tokio::time::sleep(retry) => {}
        }
    }
}

async fn follow(shared: &Arc<Shared>) -> Result<(), tonic::Status> {
    let mut events = shared.runtime.runtime.clone().get_container_events(GetEventsRequest {}).await?.into_inner();
    let _following = Following::new(shared);
    relist(shared).await?;
    while let Some(event) = events.message().await? {
        let deleted = event.container_event_type() == ContainerEventType::ContainerDeletedEvent;
        match uid_and_view(event) {
            Some((uid, _)) if deleted => shared.workers.runtime_changed(&uid),
            Some((uid, view)) => shared.workers.runtime_event(&uid, &view),
            // An event that names no pod: look at all of them.
            None => relist(shared).await?,
        }
    }
    Ok(())
}

/// Says that the runtime can be heard, as long as it lives.
struct Following<'a>(&'a Shared);

impl<'a> Following<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.set_runtime_heard(true);
        Self(shared)
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.set_runtime_heard(false);
    }
}

/// Every pod the runtime has is looked at; those that nobody wants are ended.
async fn relist(shared: &Arc<Shared>) -> Result<(), tonic::Status> {
    let mut known = shared.runtime.known_pods().await?;
    shared.pods.synced().await;
    for uid in shared.volumes.known_uids() {
        if !known.iter().any(|pod| pod.uid == uid) {
            known.push(KnownPod { uid, namespace: String::new(), name: String::new() });
        }
    }
    for pod in known {
        shared.workers.runtime_changed(&pod.uid);
        shared.workers.adopt(shared, pod);
    }
    Ok(())
}
