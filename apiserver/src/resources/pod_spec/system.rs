//! What a spec that names its operating system can't say. Entry points: [`linux`], [`windows`].

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{PodSpec, SecurityContext};
use serde_json::Value;

const FOR_WINDOWS: &str = "cannot be set for a windows pod";

/// Every container's security context with its path, in upstream's order: init containers, containers, ephemeral ones.
pub fn containers<'a>(path: &FieldPath, spec: &'a PodSpec) -> Vec<(FieldPath, Option<&'a SecurityContext>)> {
    let init = spec.init_containers.iter().flatten().map(|container| container.security_context.as_ref());
    let main = spec.containers.iter().map(|container| container.security_context.as_ref());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.security_context.as_ref());
    let at = |list: &'static str| move |(i, context): (usize, Option<&'a SecurityContext>)| (list, i, context);
    let all = init.enumerate().map(at("initContainers"));
    let all = all.chain(main.enumerate().map(at("containers")));
    let all = all.chain(ephemeral.enumerate().map(at("ephemeralContainers")));
    all.map(|(list, i, context)| (path.child(list).index(i).child("securityContext"), context)).collect()
}

fn contexts<'a>(path: &FieldPath, spec: &'a PodSpec) -> Vec<(FieldPath, &'a SecurityContext)> {
    containers(path, spec).into_iter().filter_map(|(path, context)| Some((path, context?))).collect()
}

/// No options of Windows.
pub fn linux(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    const DETAIL: &str = "windows options cannot be set for a linux pod";
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        let path = path.child("securityContext").child("windowsOptions");
        errors.push(FieldError::forbidden(&path, DETAIL));
    }
    for (path, _) in contexts(path, spec).iter().filter(|(_, context)| context.windows_options.is_some()) {
        errors.push(FieldError::forbidden(&path.child("windowsOptions"), DETAIL));
    }
}

/// Nothing that only Linux has.
pub fn windows(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    const OF_CONTAINERS: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    if let Some(context) = &spec.security_context {
        let context = serde_json::to_value(context).unwrap_or_default();
        let within = |name: &'static str| (path.child("securityContext").child(name), context.get(name).is_some());
        let of_spec = |name: &'static str, set: bool| (path.child(name), set);
        let found = [
            within("appArmorProfile"),
            within("seLinuxOptions"),
            of_spec("hostUsers", spec.host_users.is_some()),
            of_spec("hostPID", spec.host_pid == Some(true)),
            of_spec("hostIPC", spec.host_ipc == Some(true)),
            within("seccompProfile"),
            within("fsGroup"),
            within("fsGroupChangePolicy"),
            within("sysctls"),
            of_spec("shareProcessNamespace", spec.share_process_namespace.is_some()),
            within("runAsUser"),
            within("runAsGroup"),
            within("supplementalGroups"),
            within("supplementalGroupsPolicy"),
            within("seLinuxChangePolicy"),
        ];
        for (path, _) in found.into_iter().filter(|(_, set)| *set) {
            errors.push(FieldError::forbidden(&path, FOR_WINDOWS));
        }
    }
    for (path, context) in contexts(path, spec) {
        let context: Value = serde_json::to_value(context).unwrap_or_default();
        for name in OF_CONTAINERS.into_iter().filter(|name| context.get(name).is_some()) {
            errors.push(FieldError::forbidden(&path.child(name), FOR_WINDOWS));
        }
    }
}
