//! The status of a pod, derived from what the runtime has, what probes found and what went wrong on the way.
//!
//! Entry: [`derive`], a function from data to data. Invariants: a phase that is final never changes again; conditions
//! that others own are carried over untouched.

mod conditions;
mod containers;
mod phase;

pub use self::conditions::OWNED as OWNED_CONDITIONS;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::health::Healths;
use crate::members::{Role, members};
use crate::view::PodView;

/// Why a container waits, as the last attempt to start it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// An end that the kubelet decided on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// Everything a status is made of.
pub struct Input<'a> {
    /// The pod with the status that the API has of it.
    pub pod: &'a Pod,
    pub view: &'a PodView,
    pub healths: &'a Healths,
    /// By container name: why it is not running.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Set when the pod was refused at admission or ran past its deadline: it has failed.
    pub failed: Option<&'a Verdict>,
    /// Everything has stopped and nothing will be started again.
    pub ended: bool,
    /// The addresses of the node.
    pub host_ips: &'a [String],
    pub now: Timestamp,
}

/// The status that the API should have.
pub fn derive(input: &Input) -> PodStatus {
    let before = input.pod.status.clone().unwrap_or_default();
    let all = members(input.pod);
    let mut status = PodStatus {
        observed_generation: input.pod.metadata.generation,
        qos_class: before
            .qos_class
            .clone()
            .or_else(|| Some(crate::resources::qos_class(input.pod).as_str().to_owned())),
        start_time: before.start_time.clone().or_else(|| Some(Time(whole_seconds(input.now)))),
        host_ip: input.host_ips.first().cloned(),
        host_ips: host_ips(input.host_ips),
        nominated_node_name: before.nominated_node_name.clone(),
        resource_claim_statuses: before.resource_claim_statuses.clone(),
        resize: before.resize.clone(),
        resources: before.resources.clone(),
        allocated_resources: before.allocated_resources.clone(),
        ..PodStatus::default()
    };
    let lists = containers::statuses(input, &all);
    status.phase = Some(phase::phase(input, &all, &lists).to_owned());
    (status.reason, status.message) = reason(input, &before);
    set_addresses(input, &before, &mut status);
    status.init_container_statuses = lists.list(&all, |role| matches!(role, Role::Init | Role::Sidecar));
    status.container_statuses = lists.list(&all, |role| role == Role::Regular);
    status.ephemeral_container_statuses = lists.list(&all, |role| role == Role::Ephemeral);
    status.conditions = Some(conditions::conditions(input, &all, &lists, &status));
    status
}

fn reason(input: &Input, before: &PodStatus) -> (Option<String>, Option<String>) {
    match input.failed {
        Some(verdict) => (Some(verdict.reason.clone()), Some(verdict.message.clone())),
        None => (before.reason.clone(), before.message.clone()),
    }
}

fn host_ips(addresses: &[String]) -> Option<Vec<HostIP>> {
    if addresses.is_empty() {
        return None;
    }
    Some(addresses.iter().map(|ip| HostIP { ip: ip.clone() }).collect())
}

/// A pod on the host's network has the node's addresses; any other those of its sandbox, and the last ones known
/// while it has none.
fn set_addresses(input: &Input, before: &PodStatus, status: &mut PodStatus) {
    let host_network = input.pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let mut ips: Vec<String> = match input.view.sandbox() {
        Some(_) if host_network => input.host_ips.to_vec(),
        Some(sandbox) if sandbox.ready => sandbox.ips.clone(),
        Some(_) | None => Vec::new(),
    };
    if ips.is_empty() && !input.ended {
        ips = before.pod_ips.iter().flatten().map(|one| one.ip.clone()).collect();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
}

/// The API keeps whole seconds in most of a status; anything finer would make equal states look different.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
