//! What a cluster begins with: namespaces, RBAC roles and bindings, priority classes, the `kubernetes` service.

pub mod policy;
