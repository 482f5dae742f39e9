//! A pod as CRI describes its sandbox.
//!
//! Entry: [`sandbox_config`]. Invariant: pure.

use std::collections::BTreeMap;

use cri::v1::{
    Int64Value, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PortMapping, Protocol,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::config::KubeletConfig;
use crate::dns;
use crate::resources;
use crate::runtime::keys;

/// What the runtime is told about a pod's sandbox.
pub fn sandbox_config(config: &KubeletConfig, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (name, namespace, uid) = (text(&meta.name), text(&meta.namespace), text(&meta.uid));
    let spec = pod.spec.clone().unwrap_or_default();
    let mut labels: BTreeMap<_, _> = meta.labels.clone().unwrap_or_default().into_iter().collect();
    labels.insert(keys::POD_NAME.into(), name.clone());
    labels.insert(keys::POD_NAMESPACE.into(), namespace.clone());
    labels.insert(keys::POD_UID.into(), uid.clone());
    let log_directory = config.pod_log_dir(&namespace, &name, &uid);
    let host_network = spec.host_network.unwrap_or(false);
    let (host_name, full_name) = dns::host_name(pod, &config.resolvers.cluster_domain);
    let host_name = if spec.set_hostname_as_fqdn.unwrap_or(false) { full_name.unwrap_or(host_name) } else { host_name };
    PodSandboxConfig {
        hostname: if host_network { String::new() } else { host_name },
        log_directory: log_directory.map(|dir| dir.display().to_string()).unwrap_or_default(),
        dns_config: Some(dns::resolver(pod, &config.resolvers)),
        port_mappings: if host_network { Vec::new() } else { port_mappings(&spec) },
        labels,
        annotations: meta.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(&config.cgroup_root, pod),
            security_context: Some(security_context(&spec)),
            sysctls: sysctls(&spec),
            overhead: None,
            resources: Some(resources::pod_resources(pod)),
        }),
        metadata: Some(PodSandboxMetadata { name, uid, namespace, attempt }),
    }
}

/// Which namespaces a pod has for itself.
pub fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let node_or = |on_host: Option<bool>, otherwise| {
        if on_host.unwrap_or(false) { NamespaceMode::Node as i32 } else { otherwise as i32 }
    };
    let shared = spec.share_process_namespace.unwrap_or(false);
    let own_pids = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOption {
        network: node_or(spec.host_network, NamespaceMode::Pod),
        pid: node_or(spec.host_pid, own_pids),
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod),
        target_id: String::new(),
        userns_options: None,
    }
}

fn security_context(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let security = spec.security_context.clone().unwrap_or_default();
    let mut groups = security.supplemental_groups.unwrap_or_default();
    groups.extend(security.fs_group);
    let privileged = spec
        .containers
        .iter()
        .any(|container| container.security_context.as_ref().and_then(|security| security.privileged).unwrap_or(false));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: security.run_as_user.map(|value| Int64Value { value }),
        run_as_group: security.run_as_group.map(|value| Int64Value { value }),
        supplemental_groups: groups,
        privileged,
        ..LinuxSandboxSecurityContext::default()
    }
}

fn sysctls(spec: &PodSpec) -> BTreeMap<String, String> {
    let security = spec.security_context.as_ref();
    let all = security.and_then(|security| security.sysctls.as_ref()).into_iter().flatten();
    all.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect()
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) | None => Protocol::Tcp,
        } as i32,
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    ports.map(mapping).collect()
}
