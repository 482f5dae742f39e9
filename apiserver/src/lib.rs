//! The API server: the only component that opens the store, and the only way to cluster state.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod cache;
pub mod object;
pub mod resources;
pub mod storage;
