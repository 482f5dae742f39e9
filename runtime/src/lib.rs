//! Container runtimes behind CRI.

pub mod addresses;
pub mod events;
pub mod images;
pub mod record;
pub mod reference;
pub mod simulated;
pub mod status;
pub mod transport;
