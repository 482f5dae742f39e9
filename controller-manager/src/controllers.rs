//! THE TABLE of controllers: what the controller-manager does.
//!
//! A controller is one row here and `controllers/<name>.rs`; larger ones keep their pure decisions in `<name>/plan.rs`. Names are
//! those of Kubernetes' `--controllers` flag.

use crate::context::Context;

pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod garbagecollector;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod podgc;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod rootcacertpublisher;
pub mod serviceaccount;
pub mod serviceaccount_token;
pub mod servicecidrs;
pub mod storageprotection;
pub mod tainteviction;

/// One controller.
pub struct Row {
    /// Its name in `--controllers`.
    pub name: &'static str,
    /// Connects it to the stores and runs it.
    pub start: fn(&mut Context),
}

const fn row(name: &'static str, start: fn(&mut Context)) -> Row {
    Row { name, start }
}

/// All controllers, in the order in which they are started.
pub const TABLE: &[Row] = &[
    row("serviceaccount-token-controller", serviceaccount_token::start),
    row("serviceaccount-controller", serviceaccount::start),
    row("root-ca-certificate-publisher-controller", rootcacertpublisher::start),
    row("namespace-controller", namespace::start),
    row("node-ipam-controller", nodeipam::start),
    row("node-lifecycle-controller", nodelifecycle::start),
    row("taint-eviction-controller", tainteviction::start),
    row("replicationcontroller-controller", replicationcontroller::start),
    row("endpoints-controller", endpoints::start),
    row("endpointslice-controller", endpointslice::start),
    row("endpointslice-mirroring-controller", endpointslicemirroring::start),
    row("service-cidr-controller", servicecidrs::start),
    row("resourcequota-controller", resourcequota::start),
    row("disruption-controller", disruption::start),
    row("persistentvolumeclaim-protection-controller", storageprotection::start_claims),
    row("persistentvolume-protection-controller", storageprotection::start_volumes),
    row("garbage-collector-controller", garbagecollector::start),
    row("pod-garbage-collector-controller", podgc::start),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_controller_has_a_name_of_its_own() {
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(names.iter().all(|name| name.ends_with("-controller")));
    }
}
