//! The rows: every built-in kind that this server knows, in the order of discovery.

use super::config_map::ConfigMap;
use super::namespace::Namespace;
use super::node::Node;
use super::pod::Pod;
use super::replication_controller::ReplicationController;
use super::secret::Secret;
use super::service::Service;
use super::service_account::ServiceAccount;
use super::{BuiltIn, Kind, Strategy};

fn row<K: Kind>() -> Box<dyn Strategy> {
    Box::new(BuiltIn::<K>::new())
}

/// One strategy for each kind.
pub fn table() -> Vec<Box<dyn Strategy>> {
    vec![
        row::<ConfigMap>(),
        row::<Namespace>(),
        row::<Node>(),
        row::<Pod>(),
        row::<ReplicationController>(),
        row::<Secret>(),
        row::<Service>(),
        row::<ServiceAccount>(),
    ]
}
