//! The checks of the baseline standard.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LifecycleHandler, SELinuxOptions};

use super::{Subject, Violation, bad_values, containers, plural, quoted, setters, violation};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Kernel parameters that are safe, and since when they count as that.
const SYSCTLS: [(u32, &str); 12] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

/// Profiles that confine.
pub(super) fn confines(profile: &str) -> bool {
    profile == "RuntimeDefault" || profile == "Localhost"
}

pub(super) fn app_armor_profile(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.spec.security_context.as_ref().and_then(|security| security.app_armor_profile.as_ref());
    let bad = bad_values(
        subject,
        of_pod.map(|profile| profile.type_.as_str()),
        |security| Some(security.app_armor_profile.as_ref()?.type_.as_str()),
        confines,
    );
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = subject.meta.annotations.iter().flatten();
    let annotated: Vec<String> = annotations
        .filter(|(key, value)| key.starts_with(APP_ARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={}", api::field::go_quote(value)))
        .collect();
    let named = (!annotated.is_empty()).then(|| plural("annotation", "annotations", annotated.len()).to_owned());
    let setters: Vec<String> = bad.setters.into_iter().chain(named).collect();
    let values: Vec<String> = bad.values.into_iter().map(str::to_owned).chain(annotated).collect();
    if setters.is_empty() {
        return None;
    }
    let detail = format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(&values));
    violation(plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len()), detail)
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let names = subject.containers_where(|part| {
        let own = part.security.and_then(|security| security.capabilities.as_ref()?.add.as_ref());
        let bad: Vec<String> =
            own.into_iter().flatten().filter(|name| !CAPABILITIES.contains(&name.as_str())).cloned().collect();
        let any = !bad.is_empty();
        added.extend(bad);
        any
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (containers(&names), quoted(&added));
    violation("non-default capabilities", format!("{who} must not include {what} in securityContext.capabilities.add"))
}

/// Since 1.22 the restricted standard has a check of its own.
pub(super) fn capabilities_until_restricted(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_since(22) { None } else { capabilities(subject) }
}

pub(super) fn host_namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let shared =
        [("hostNetwork=true", spec.host_network), ("hostPID=true", spec.host_pid), ("hostIPC=true", spec.host_ipc)];
    let shared: Vec<&str> = shared.into_iter().filter(|(_, set)| *set == Some(true)).map(|(name, _)| name).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_path_volumes(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.volumes.iter().flatten().filter(|volume| volume.host_path.is_some());
    let names: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)))
}

pub(super) fn host_ports(subject: &Subject<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = subject.containers_where(|part| {
        let own: Vec<String> = part.host_ports.iter().filter(|port| **port != 0).map(i32::to_string).collect();
        let any = !own.is_empty();
        ports.extend(own);
        any
    });
    if names.is_empty() {
        return None;
    }
    let listed: Vec<String> = ports.into_iter().collect();
    let (uses, what) = (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", listed.len()));
    violation("hostPort", format!("{} {uses} {what} {}", containers(&names), listed.join(", ")))
}

pub(super) fn host_probes_and_lifecycle(subject: &Subject<'_>) -> Option<Violation> {
    let (mut hosts, mut names) = (BTreeSet::new(), BTreeSet::new());
    for part in &subject.containers {
        let probes = part.probes.into_iter().flatten();
        let of_probes = probes.flat_map(|probe| {
            let http = probe.http_get.as_ref().and_then(|get| get.host.as_deref());
            [http, probe.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref())]
        });
        let handlers = part.lifecycle.into_iter().flat_map(|all| [all.post_start.as_ref(), all.pre_stop.as_ref()]);
        let of_handlers = handlers.flatten().flat_map(hosts_of_handler);
        for host in of_probes.chain(of_handlers).flatten().filter(|host| !host.is_empty()) {
            hosts.insert(host);
            names.insert(part.name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&names), quoted(&hosts)))
}

fn hosts_of_handler(handler: &LifecycleHandler) -> [Option<&str>; 2] {
    let http = handler.http_get.as_ref().and_then(|get| get.host.as_deref());
    [http, handler.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref())]
}

pub(super) fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let names =
        subject.containers_where(|part| part.security.is_some_and(|security| security.privileged == Some(true)));
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&names)))
}

pub(super) fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    let bad = bad_values(subject, None, |security| security.proc_mount.as_deref(), |kind| kind == "Default");
    let (setters, kinds) = (bad.setters?, quoted(bad.values));
    violation("procMount", format!("{setters} must not set securityContext.procMount to {kinds}"))
}

pub(super) fn selinux_options(subject: &Subject<'_>) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: &SELinuxOptions| {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let kind = text(&options.type_);
        let known = ["", "container_t", "container_init_t", "container_kvm_t"].contains(&kind.as_str())
            || (kind == "container_engine_t" && subject.is_since(31));
        let (sets_user, sets_role) = (!text(&options.user).is_empty(), !text(&options.role).is_empty());
        if !known {
            types.insert(kind);
        }
        user |= sets_user;
        role |= sets_role;
        !known || sets_user || sets_role
    };
    let of_pod = subject.spec.security_context.as_ref().and_then(|security| security.se_linux_options.as_ref());
    let pod = of_pod.is_some_and(&mut is_bad);
    let names = subject.containers_where(|part| {
        part.security.and_then(|security| security.se_linux_options.as_ref()).is_some_and(&mut is_bad)
    });
    let setters = setters(pod, &names)?;
    let kinds = (!types.is_empty()).then(|| format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    let rest = [(user, "user may not be set"), (role, "role may not be set")];
    let rest = rest.into_iter().filter(|(set, _)| *set).map(|(_, words)| words.to_owned());
    let data: Vec<String> = kinds.into_iter().chain(rest).collect();
    violation("seLinuxOptions", format!("{setters} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

pub(super) fn seccomp_profile(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_since(19) { seccomp_fields(subject) } else { seccomp_annotations(subject) }
}

/// Since 1.19 the restricted standard has a check of its own.
pub(super) fn seccomp_until_restricted(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_since(19) { None } else { seccomp_annotations(subject) }
}

pub(super) fn seccomp_fields(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.spec.security_context.as_ref().and_then(|security| security.seccomp_profile.as_ref());
    let bad = bad_values(
        subject,
        of_pod.map(|profile| profile.type_.as_str()),
        |security| Some(security.seccomp_profile.as_ref()?.type_.as_str()),
        confines,
    );
    let (setters, kinds) = (bad.setters?, quoted(bad.values));
    violation("seccompProfile", format!("{setters} must not set securityContext.seccompProfile.type to {kinds}"))
}

fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    let allowed =
        |value: &str| value == "runtime/default" || value == "docker/default" || value.starts_with("localhost/");
    let of_containers = subject.containers.iter().map(|part| format!("{SECCOMP_OF_CONTAINER}{}", part.name));
    let annotations = subject.meta.annotations.as_ref()?;
    let keys: BTreeSet<String> = std::iter::once(SECCOMP_OF_POD.to_owned()).chain(of_containers).collect();
    let bad = keys.iter().filter_map(|key| Some((key, annotations.get(key)?))).filter(|(_, value)| !allowed(value));
    let bad: Vec<String> = bad.map(|(key, value)| format!("{key}={}", api::field::go_quote(value))).collect();
    if bad.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", bad.len());
    violation("seccompProfile", format!("forbidden {what} {}", bad.join(", ")))
}

pub(super) fn sysctls(subject: &Subject<'_>) -> Option<Violation> {
    let safe = |name: &str| SYSCTLS.iter().any(|(since, safe)| *safe == name && subject.is_since(*since));
    let set = subject.spec.security_context.as_ref().and_then(|security| security.sysctls.as_ref());
    let bad: Vec<&str> = set.into_iter().flatten().map(|one| one.name.as_str()).filter(|name| !safe(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn windows_host_process(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.spec.security_context.as_ref().and_then(|security| security.windows_options.as_ref());
    let pod = of_pod.is_some_and(|options| options.host_process == Some(true));
    let names = subject.containers_where(|part| {
        let options = part.security.and_then(|security| security.windows_options.as_ref());
        options.is_some_and(|options| options.host_process == Some(true))
    });
    let setters = setters(pod, &names)?;
    violation("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}
