//! The checks that only the restricted standard has. Since 1.25 pods for Windows need not pass those that mean nothing there.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Capabilities, Volume};
use serde_json::Value;

use super::baseline::{confines, seccomp_fields};
use super::{Part, Subject, Violation, containers, plural, quoted, setters, violation};

/// Sources of volumes that come from the cluster, not from a node or a server somewhere.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
/// Other sources that have a name in the message.
const NAMED: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn is_exempt(subject: &Subject<'_>) -> bool {
    subject.is_since(25) && subject.is_windows()
}

pub(super) fn privilege_escalation(subject: &Subject<'_>) -> Option<Violation> {
    if is_exempt(subject) {
        return None;
    }
    let names = subject
        .containers_where(|part| part.security.and_then(|security| security.allow_privilege_escalation) != Some(false));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    if is_exempt(subject) {
        return None;
    }
    let own = |part: &Part<'_>| -> Capabilities {
        part.security.and_then(|security| security.capabilities.clone()).unwrap_or_default()
    };
    let keeping = subject.containers_where(|part| !own(part).drop.iter().flatten().any(|dropped| dropped == "ALL"));
    let mut added = BTreeSet::new();
    let adding = subject.containers_where(|part| {
        let bad: Vec<String> =
            own(part).add.unwrap_or_default().into_iter().filter(|name| name != "NET_BIND_SERVICE").collect();
        let any = !bad.is_empty();
        added.extend(bad);
        any
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let (who, what) = (containers(&adding), quoted(&added));
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn volumes(subject: &Subject<'_>) -> Option<Violation> {
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in subject.spec.volumes.iter().flatten() {
        if let Some(source) = restricted_source(volume) {
            names.push(volume.name.as_str());
            types.insert(source);
        }
    }
    if names.is_empty() {
        return None;
    }
    let (volumes, uses) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let kinds = plural("restricted volume type", "restricted volume types", types.len());
    violation("restricted volume types", format!("{volumes} {} {uses} {kinds} {}", quoted(&names), quoted(&types)))
}

fn restricted_source(volume: &Volume) -> Option<&'static str> {
    let value = serde_json::to_value(volume).unwrap_or(Value::Null);
    if VOLUMES.iter().any(|source| value.get(*source).is_some()) {
        return None;
    }
    Some(NAMED.iter().find(|source| value.get(**source).is_some()).copied().unwrap_or("unknown"))
}

pub(super) fn run_as_non_root(subject: &Subject<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if subject.has_own_users() {
        return None;
    }
    let of_pod = subject.spec.security_context.as_ref().and_then(|security| security.run_as_non_root);
    let own = |part: &Part<'_>| part.security.and_then(|security| security.run_as_non_root);
    let explicit = subject.containers_where(|part| own(part) == Some(false));
    if let Some(setters) = setters(of_pod == Some(false), &explicit) {
        return violation(REASON, format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = subject.containers_where(|part| own(part).is_none() && of_pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

pub(super) fn run_as_user(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    let pod = subject.spec.security_context.as_ref().and_then(|security| security.run_as_user) == Some(0);
    let names = subject.containers_where(|part| part.security.and_then(|security| security.run_as_user) == Some(0));
    violation("runAsUser=0", format!("{} must not set runAsUser=0", setters(pod, &names)?))
}

pub(super) fn seccomp_profile(subject: &Subject<'_>) -> Option<Violation> {
    if is_exempt(subject) {
        return None;
    }
    if let Some(bad) = seccomp_fields(subject) {
        return Some(bad);
    }
    let of_pod = subject.spec.security_context.as_ref().and_then(|security| security.seccomp_profile.as_ref());
    let confined = of_pod.is_some_and(|profile| confines(&profile.type_));
    let silent = subject.containers_where(|part| {
        !confined && part.security.and_then(|security| security.seccomp_profile.as_ref()).is_none()
    });
    if silent.is_empty() {
        return None;
    }
    let rule = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {} {rule}", containers(&silent)))
}
