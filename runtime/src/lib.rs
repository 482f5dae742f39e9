//! Container runtimes behind CRI.

pub mod accounts;
pub mod addresses;
pub mod capabilities;
pub mod cgroups;
pub mod events;
pub mod images;
pub mod record;
pub mod reference;
pub mod rootfs;
pub mod shim;
pub mod simulated;
pub mod spec;
pub mod status;
pub mod transport;
