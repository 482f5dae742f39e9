//! The container runtime interface: the protocol between a kubelet and a container runtime. Types, stubs, and how calls travel.
//!
//! [`v1`] is wire-compatible with Kubernetes' `runtime.v1`; [`images`] is our one addition, loading an archive.
//! Invariant: a number in `proto/runtime.proto` never differs from CRI's.

pub mod transport;

/// `runtime.v1`: RuntimeService and ImageService, with clients and servers.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// `kubelab.images.v1`: the service behind `kubelab image load`.
#[allow(clippy::all, missing_docs)]
pub mod images {
    tonic::include_proto!("kubelab.images.v1");
}
