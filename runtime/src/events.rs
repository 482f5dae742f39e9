//! The stream of container events (CRI GetContainerEvents), so that a kubelet has nothing to poll.
//!
//! Invariant: a subscriber that does not keep up is ended, never waited for; it lists again when it reconnects.

use std::sync::{Mutex, PoisonError};

use cri::v1::ContainerEventResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Events that a subscriber may be behind before it is ended.
const BACKLOG: usize = 4096;

/// Everybody who listens.
#[derive(Debug, Default)]
pub struct Subscribers {
    senders: Mutex<Vec<mpsc::Sender<Result<ContainerEventResponse, Status>>>>,
}

impl Subscribers {
    /// A new listener; it gets what is published from now on.
    pub fn subscribe(&self) -> ReceiverStream<Result<ContainerEventResponse, Status>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        ReceiverStream::new(receiver)
    }

    /// Tells everybody.
    pub fn publish(&self, event: &ContainerEventResponse) {
        self.senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|sender| sender.try_send(Ok(event.clone())).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_is_ended() {
        let subscribers = Subscribers::default();
        let slow = subscribers.subscribe();
        for _ in 0..=BACKLOG {
            subscribers.publish(&ContainerEventResponse::default());
        }
        assert!(subscribers.senders.lock().expect("not poisoned").is_empty());
        drop(slow);
    }
}
