//! What exists on a simulated node. Pure: time and ids are arguments.
//!
//! Invariant: every container's sandbox exists, and a sandbox that is not ready holds no address.

use std::collections::BTreeMap;

use cri::v1;
use tonic::Status;

use super::script::Script;
use super::timetable::Timetable;
use crate::addresses::{AddressPool, Cidr};
use crate::record::{Container, Exit, Phase, Sandbox};

/// A container and what it is told to do.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// What CRI knows.
    pub container: Container,
    /// What it will do.
    pub script: Script,
}

/// Everything on the node.
#[derive(Debug, Default)]
pub struct State {
    /// By id.
    pub sandboxes: BTreeMap<String, Sandbox>,
    /// By id.
    pub containers: BTreeMap<String, Scripted>,
    /// Pulled images, by full name.
    pub images: BTreeMap<String, v1::Image>,
    /// What is to come.
    pub timetable: Timetable,
    addresses: Option<AddressPool>,
}

impl State {
    /// An empty node.
    pub fn new(cidr: Option<Cidr>) -> Self {
        Self { addresses: cidr.map(AddressPool::new), ..Self::default() }
    }

    /// Where pod addresses come from, from now on.
    pub fn set_cidr(&mut self, cidr: Cidr) {
        if self.addresses.as_ref().is_some_and(|pool| pool.cidr() == cidr) {
            return;
        }
        let mut pool = AddressPool::new(cidr);
        self.sandboxes.values().filter_map(|s| s.ip).for_each(|ip| pool.claim(ip));
        self.addresses = Some(pool);
    }

    /// Whether pods can get addresses.
    pub fn has_network(&self) -> bool {
        self.addresses.is_some()
    }

    /// Adds a sandbox, with an address unless it uses the host's network.
    pub fn add_sandbox(&mut self, mut sandbox: Sandbox) -> Result<(), Status> {
        if sandbox.namespaces().network() != v1::NamespaceMode::Node {
            let pool = self.addresses.as_mut().ok_or_else(|| Status::failed_precondition("no pod CIDR is set"))?;
            let range = pool.cidr();
            let ip = pool.take().ok_or_else(|| Status::resource_exhausted(format!("no free address in {range}")))?;
            sandbox.ip = Some(ip);
        }
        self.sandboxes.insert(sandbox.id.clone(), sandbox);
        Ok(())
    }

    /// The sandbox, or CRI's error.
    pub fn sandbox(&self, id: &str) -> Result<&Sandbox, Status> {
        self.sandboxes.get(id).ok_or_else(|| Status::not_found(format!("sandbox {id:?} not found")))
    }

    /// The container, or CRI's error.
    pub fn container(&self, id: &str) -> Result<&Scripted, Status> {
        self.containers.get(id).ok_or_else(|| Status::not_found(format!("container {id:?} not found")))
    }

    /// Ids of the containers of a sandbox.
    pub fn containers_of(&self, sandbox_id: &str) -> Vec<String> {
        let of_sandbox = self.containers.values().filter(|c| c.container.sandbox_id == sandbox_id);
        of_sandbox.map(|c| c.container.id.clone()).collect()
    }

    /// CRI's statuses of the containers of a sandbox.
    pub fn statuses_of(&self, sandbox_id: &str) -> Vec<v1::ContainerStatus> {
        let of_sandbox = self.containers.values().filter(|c| c.container.sandbox_id == sandbox_id);
        of_sandbox.map(|c| c.container.status()).collect()
    }

    /// Marks a running container as ended; false when it was not running.
    pub fn end(&mut self, container_id: &str, exit: Exit) -> bool {
        self.timetable.forget(container_id);
        let Some(scripted) = self.containers.get_mut(container_id) else { return false };
        let Phase::Running { started_at } = scripted.container.phase else { return false };
        scripted.container.phase = Phase::Exited { started_at, exit };
        true
    }

    /// Marks a sandbox as stopped and frees its address.
    pub fn stop_sandbox(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        sandbox.ready = false;
        if let (Some(ip), Some(pool)) = (sandbox.ip.take(), self.addresses.as_mut()) {
            pool.release(ip);
        }
    }
}
