//! A container runtime that runs nothing: the same CRI, containers that exist on paper and follow a script.
//!
//! For tests, for machines without the rights to run containers, and for experiments with many nodes. Entry:
//! [`Simulated::new`], then [`Simulated::connect`] (in memory) or [`Simulated::serve`] (a socket). Everything happens
//! on tokio's clock in the caller's runtime: no thread, no wall clock, no process; one task per node keeps the
//! timetable. Invariant: the same calls at the same (virtual) times with the same seed give the same answers and ids.

mod images;
mod script;
mod service;
mod state;
mod timetable;

use std::sync::Arc;

use cri::transport::{self as calls, Transport};
use process::{Clock, Rng};
use tokio_util::sync::CancellationToken;

use crate::addresses::{Cidr, CidrError};
use crate::transport::{self, Listener, TransportError};
use service::Service;

/// What a simulated runtime needs to know of its node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, for messages and log lines.
    pub node_name: String,
    /// Where pod IPs come from; a kubelet may set it later by UpdateRuntimeConfig.
    pub pod_cidr: Option<String>,
    /// Whether each container's log file is written (a line at its start and end).
    pub write_logs: bool,
}

/// The runtime of one simulated node.
#[derive(Clone)]
pub struct Simulated {
    service: Arc<Service>,
    token: CancellationToken,
}

impl Simulated {
    /// A node without pods. Ends, with all its connections, when the token is cancelled.
    pub fn new(config: Config, clock: Clock, rng: Rng, token: CancellationToken) -> Result<Self, CidrError> {
        let cidr = config.pod_cidr.as_deref().map(str::parse::<Cidr>).transpose()?;
        let service = Arc::new(Service::new(config, cidr, clock, rng));
        Ok(Self { service, token })
    }

    /// Calls without any connection. Must be called inside a tokio runtime.
    pub fn connect(&self) -> Transport {
        self.keep_timetable();
        let token = self.token.clone();
        calls::in_process(self.routes(), move || token.clone().cancelled_owned())
    }

    /// Serves until the token is cancelled.
    pub async fn serve(&self, listener: Listener) -> Result<(), TransportError> {
        self.keep_timetable();
        transport::serve(self.routes(), listener, self.token.clone()).await
    }

    fn keep_timetable(&self) {
        self.service.clone().keep_timetable(self.token.clone());
    }

    fn routes(&self) -> tonic::service::Routes {
        transport::routes(self.service.clone())
    }
}

#[cfg(test)]
mod tests;
