//! Security contexts of pods and containers.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext, Sysctl};

use super::windows;
use crate::resources::volume_sources::descending_path;
use crate::resources::{checks, internal};

const SYSCTL_MAX: usize = 253;
const PATH_MAX: usize = 4095;
const ID_MAX: i64 = i32::MAX as i64;

/// All errors of a pod's security context.
pub fn pod(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let Some(context) = &spec.security_context else { return };
    let path = path.child("securityContext");
    let mut id = |field: &FieldPath, id: Option<i64>| {
        if let Some(id) = id {
            checks::in_range(errors, field, id, 0, ID_MAX);
        }
    };
    id(&path.child("fsGroup"), context.fs_group);
    id(&path.child("runAsUser"), context.run_as_user);
    id(&path.child("runAsGroup"), context.run_as_group);
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(&path.child("supplementalGroups").index(i), Some(*group));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(errors, &path.child("sysctls"), context.sysctls.as_deref().unwrap_or_default(), spec);
    if let Some(policy) = &context.fs_group_change_policy {
        checks::one_of(errors, &path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    seccomp(errors, &path.child("seccompProfile"), context.seccomp_profile.as_ref());
    windows::options(errors, &path.child("windowsOptions"), context.windows_options.as_ref());
    app_armor(errors, &path.child("appArmorProfile"), context.app_armor_profile.as_ref());
    if let Some(policy) = &context.supplemental_groups_policy {
        checks::one_of(errors, &path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    }
    if let Some(policy) = &context.se_linux_change_policy {
        checks::one_of(errors, &path.child("seLinuxChangePolicy"), policy, &["MountOption", "Recursive"]);
    }
}

/// With its own user namespace a pod shares no other one with the host.
pub fn own_users(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    const DETAIL: &str = "when `pod.Spec.HostUsers` is false";
    if spec.host_users != Some(false) {
        return;
    }
    let shared = [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)];
    for (name, _) in shared.into_iter().filter(|(_, shared)| *shared == Some(true)) {
        errors.push(FieldError::forbidden(&path.child(name), DETAIL));
    }
}

/// All errors of a container's security context.
pub fn container(errors: &mut FieldErrors, path: &FieldPath, context: Option<&SecurityContext>, host_users: bool) {
    let Some(context) = context else { return };
    for (field, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        if let Some(id) = id {
            checks::in_range(errors, &path.child(field), id, 0, ID_MAX);
        }
    }
    if let Some(mount) = &context.proc_mount {
        checks::one_of(errors, &path.child("procMount"), mount, &["Default", "Unmasked"]);
        if host_users && mount == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&path.child("procMount"), mount, detail));
        }
    }
    seccomp(errors, &path.child("seccompProfile"), context.seccomp_profile.as_ref());
    if context.allow_privilege_escalation == Some(false) {
        contradictions(errors, path, context);
    }
    windows::options(errors, &path.child("windowsOptions"), context.windows_options.as_ref());
    app_armor(errors, &path.child("appArmorProfile"), context.app_armor_profile.as_ref());
}

fn contradictions(errors: &mut FieldErrors, path: &FieldPath, context: &SecurityContext) {
    let mut contradiction = |with: &str| {
        let detail = format!("cannot set `allowPrivilegeEscalation` to false and {with}");
        errors.push(internal::invalid(path, "v1.SecurityContext", context, &detail));
    };
    if context.privileged == Some(true) {
        contradiction("`privileged` to true");
    }
    let added = context.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_deref()).unwrap_or_default();
    for _ in added.iter().filter(|capability| *capability == "CAP_SYS_ADMIN") {
        contradiction("`capabilities.Add` CAP_SYS_ADMIN");
    }
}

fn sysctls(errors: &mut FieldErrors, path: &FieldPath, sysctls: &[Sysctl], spec: &PodSpec) {
    let mut taken = BTreeSet::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let path = path.index(i).child("name");
        if sysctl.name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(&sysctl.name) {
            let detail = format!(
                "must have at most {SYSCTL_MAX} characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.push(FieldError::invalid(&path, &sysctl.name, detail));
        } else if !taken.insert(&sysctl.name) {
            errors.push(FieldError::duplicate(&path, &sysctl.name));
        }
        let name = sysctl.name.replace('/', ".");
        let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
        if spec.host_network == Some(true) && name.starts_with("net.") {
            let detail = "may not be specified when 'hostNetwork' is true";
            errors.push(FieldError::invalid(&path, &sysctl.name, detail));
        } else if spec.host_ipc == Some(true) && (of_ipc || name == "kernel.sem") {
            let detail = "may not be specified when 'hostIPC' is true";
            errors.push(FieldError::invalid(&path, &sysctl.name, detail));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        end(bytes.first()) && end(bytes.last()) && inner
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(part)
}

fn seccomp(errors: &mut FieldErrors, path: &FieldPath, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let local = path.child("localhostProfile");
    match profile.type_.as_str() {
        "" => errors.push(FieldError::required(&path.child("type"), "type is required when seccompProfile is set")),
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        other => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(checks::unsupported(&path.child("type"), other, &known));
        }
    }
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.push(FieldError::required(&local, "must be set when seccomp type is Localhost")),
        ("Localhost", Some(file)) => descending_path(errors, &local, file),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(internal::invalid(&local, "v1.SeccompProfile", profile, detail));
        }
        (_, None) => {}
    }
}

/// A profile of AppArmor.
pub fn app_armor(errors: &mut FieldErrors, path: &FieldPath, profile: Option<&AppArmorProfile>) {
    let Some(profile) = profile else { return };
    let local = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => {
            errors.push(FieldError::required(&local, "must be set when AppArmor type is Localhost"));
        }
        ("Localhost", Some(file)) => {
            if file.trim() != file {
                errors.push(FieldError::invalid(&local, file, "must not be padded with whitespace"));
            } else if file.is_empty() {
                errors.push(FieldError::required(&local, "must be set when AppArmor type is Localhost"));
            }
            if file.len() > PATH_MAX {
                errors.push(FieldError::too_long(&local, PATH_MAX));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            errors.push(FieldError::invalid(&local, file, "can only be set when AppArmor type is Localhost"));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            errors.push(FieldError::required(&path.child("type"), "type is required when appArmorProfile is set"))
        }
        (other, _) => {
            errors.push(checks::unsupported(
                &path.child("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            ));
        }
    }
}
