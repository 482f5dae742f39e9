//! The Pod Security Standards as functions of a pod: what violates them, in upstream's words. Entry point: [`evaluate`].
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
//!
//! Pure. The checks of the baseline come first, then those of the restricted standard, each in the order of their names; a
//! restricted check may stand for a baseline one.

mod baseline;
mod restricted;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Lifecycle, PodSpec, Probe, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::{Level, Standard, Version};

/// One check that a pod fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub reason: String,
    /// What fails it; may be empty.
    pub detail: String,
}

/// A pod as checks see it.
pub(super) struct Subject<'a> {
    meta: &'a ObjectMeta,
    spec: &'a PodSpec,
    containers: Vec<Part<'a>>,
    version: Version,
}

/// What all three sorts of containers have.
struct Part<'a> {
    name: &'a str,
    security: Option<&'a SecurityContext>,
    host_ports: Vec<i32>,
    probes: [Option<&'a Probe>; 3],
    lifecycle: Option<&'a Lifecycle>,
}

/// A check; none is passed.
type Check = fn(&Subject<'_>) -> Option<Violation>;

/// A check, and since which minor version it belongs to its standard.
struct Row {
    since: u32,
    check: Check,
}

const fn row(since: u32, check: Check) -> Row {
    Row { since, check }
}

const BASELINE: &[Row] = &[
    row(0, baseline::app_armor_profile),
    row(0, baseline::capabilities),
    row(0, baseline::host_namespaces),
    row(0, baseline::host_path_volumes),
    row(0, baseline::host_ports),
    row(34, baseline::host_probes_and_lifecycle),
    row(0, baseline::privileged),
    row(0, baseline::proc_mount),
    row(0, baseline::selinux_options),
    row(0, baseline::seccomp_profile),
    row(0, baseline::sysctls),
    row(0, baseline::windows_host_process),
];

/// The baseline without what the restricted standard says more strictly: volumes from the start, seccomp since 1.19,
/// capabilities since 1.22.
const KEPT: &[Row] = &[
    row(0, baseline::app_armor_profile),
    row(0, baseline::capabilities_until_restricted),
    row(0, baseline::host_namespaces),
    row(0, baseline::host_ports),
    row(34, baseline::host_probes_and_lifecycle),
    row(0, baseline::privileged),
    row(0, baseline::proc_mount),
    row(0, baseline::selinux_options),
    row(0, baseline::seccomp_until_restricted),
    row(0, baseline::sysctls),
    row(0, baseline::windows_host_process),
];

const RESTRICTED: &[Row] = &[
    row(8, restricted::privilege_escalation),
    row(22, restricted::capabilities),
    row(0, restricted::volumes),
    row(0, restricted::run_as_non_root),
    row(23, restricted::run_as_user),
    row(19, restricted::seccomp_profile),
];

/// Everything in which a pod violates a standard.
pub fn evaluate(standard: &Standard, meta: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    let tables: &[&[Row]] = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[BASELINE],
        Level::Restricted => &[KEPT, RESTRICTED],
    };
    let subject = Subject { meta, spec, containers: parts(spec), version: standard.version };
    let rows = tables.iter().flat_map(|rows| rows.iter()).filter(|row| subject.is_since(row.since));
    rows.filter_map(|row| (row.check)(&subject)).collect()
}

fn parts(spec: &PodSpec) -> Vec<Part<'_>> {
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers).map(Part::of_container);
    plain.chain(spec.ephemeral_containers.iter().flatten().map(Part::of_ephemeral)).collect()
}

impl<'a> Part<'a> {
    fn of_container(container: &'a Container) -> Self {
        Self {
            name: &container.name,
            security: container.security_context.as_ref(),
            host_ports: container.ports.iter().flatten().filter_map(|port| port.host_port).collect(),
            probes: [&container.liveness_probe, &container.readiness_probe, &container.startup_probe]
                .map(Option::as_ref),
            lifecycle: container.lifecycle.as_ref(),
        }
    }

    fn of_ephemeral(container: &'a EphemeralContainer) -> Self {
        Self {
            name: &container.name,
            security: container.security_context.as_ref(),
            host_ports: container.ports.iter().flatten().filter_map(|port| port.host_port).collect(),
            probes: [&container.liveness_probe, &container.readiness_probe, &container.startup_probe]
                .map(Option::as_ref),
            lifecycle: container.lifecycle.as_ref(),
        }
    }
}

impl Subject<'_> {
    /// Whether the version that counts is at least 1.`minor`.
    fn is_since(&self, minor: u32) -> bool {
        self.version >= Version::Minor(minor)
    }

    /// The names of the containers that something is true of.
    fn containers_where(&self, mut holds: impl FnMut(&Part<'_>) -> bool) -> Vec<&str> {
        self.containers.iter().filter(|part| holds(part)).map(|part| part.name).collect()
    }

    /// Whether it runs on Windows, where some checks mean nothing.
    fn is_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }

    /// Since 1.35 root in a user namespace of its own counts as nobody.
    fn has_own_users(&self) -> bool {
        self.is_since(35) && self.spec.host_users == Some(false)
    }
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

/// `"a", "b"`.
fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod`, `pod and containers "a", "b"`; none if nobody set anything.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let named = (!names.is_empty()).then(|| containers(names));
    let all: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().chain(named).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

/// Who sets a value that is not allowed, and which values.
struct Bad<'a> {
    setters: Option<String>,
    values: BTreeSet<&'a str>,
}

/// Looks at one setting of the pod and of its containers.
fn bad_values<'a>(
    subject: &'a Subject<'_>,
    of_pod: Option<&'a str>,
    of_container: impl Fn(&'a SecurityContext) -> Option<&'a str>,
    allowed: impl Fn(&str) -> bool,
) -> Bad<'a> {
    let mut values = BTreeSet::new();
    let pod = of_pod.filter(|value| !allowed(value));
    values.extend(pod);
    let mut names = Vec::new();
    for part in &subject.containers {
        if let Some(value) = part.security.and_then(&of_container).filter(|value| !allowed(value)) {
            values.insert(value);
            names.push(part.name);
        }
    }
    Bad { setters: setters(pod.is_some(), &names), values }
}

#[cfg(test)]
mod tests;
