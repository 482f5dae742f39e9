//! The API as clients see it: kube's client and plain requests on the router, in this process, on virtual time.

#[path = "api/contract.rs"]
mod contract;
#[path = "api/crds.rs"]
mod crds;
#[path = "api/crds_invalid.rs"]
mod crds_invalid;
#[path = "api/deletes.rs"]
mod deletes;
#[path = "api/flow_control.rs"]
mod flow_control;
#[path = "api/groups.rs"]
mod groups;
#[path = "api/kinds.rs"]
mod kinds;
#[path = "api/ownership.rs"]
mod ownership;
#[path = "api/pod_security.rs"]
mod pod_security;
#[path = "api/policies.rs"]
mod policies;
#[path = "api/protobuf.rs"]
mod protobuf;
#[path = "api/quota.rs"]
mod quota;
#[path = "api/reads.rs"]
mod reads;
#[path = "api/server.rs"]
mod server;
#[path = "api/subresources.rs"]
mod subresources;
#[path = "api/watches.rs"]
mod watches;
#[path = "api/writes.rs"]
mod writes;
