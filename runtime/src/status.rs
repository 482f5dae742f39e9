//! What a runtime says about itself as a whole. Pure; shared by both runtimes.

use cri::v1;

/// CRI's Status: ready, and with a network once pod addresses are known.
pub fn response(has_network: bool) -> v1::StatusResponse {
    let condition = |kind: &str, status: bool, reason: &str, message: &str| v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let network = match has_network {
        true => condition("NetworkReady", true, "", ""),
        false => condition("NetworkReady", false, "NetworkPluginNotReady", "no pod CIDR is set yet"),
    };
    v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions: vec![condition("RuntimeReady", true, "", ""), network] }),
        info: Default::default(),
        runtime_handlers: vec![v1::RuntimeHandler {
            name: String::new(),
            features: Some(v1::RuntimeHandlerFeatures::default()),
        }],
        features: Some(v1::RuntimeFeatures { supplemental_groups_policy: true, user_namespaces_host_network: false }),
    }
}

/// CRI's RuntimeConfig: the cgroup filesystem is driven directly, without systemd.
pub fn runtime_config() -> v1::RuntimeConfigResponse {
    v1::RuntimeConfigResponse {
        linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() }),
    }
}
