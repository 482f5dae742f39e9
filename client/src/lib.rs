//! How a component talks to the API and reacts to it: our client-go, thin, on kube's client.
//!
//! A component starts [`Informers`] (stores that follow the API), maps their changes to keys of a [`WorkQueue`], and
//! lets a [`Controller`] run its [`Reconcile`] for each key. Nothing here assumes a socket: a `kube::Client` built on
//! the API server's own router works as well, under paused time too.

pub mod connect;
pub mod controller;
pub mod error;
pub mod informer;
pub mod leader;
pub mod progress;
pub mod queue;
pub mod recorder;
pub mod store;
pub mod written;

pub use connect::kube_client;
pub use controller::{Controller, Outcome, Reconcile};
pub use error::Error;
pub use informer::{Informers, Object};
pub use leader::LeaderElection;
pub use progress::Progress;
pub use queue::WorkQueue;
pub use recorder::{EventType, Recorder};
pub use store::{Change, Index, Store};
pub use written::WrittenRevisions;

/// What to watch; the same type as kube's, so that callers need not name kube for it.
pub use kube::runtime::watcher::Config as WatchConfig;
