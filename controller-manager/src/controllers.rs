//! The controllers.
pub mod endpoints { pub mod plan; }
pub mod nodeipam { pub mod plan; }
pub mod nodelifecycle { pub mod plan; }
pub mod podgc { pub mod plan; }
pub mod tainteviction { pub mod plan; }
pub mod endpointslice { pub mod plan; }
pub mod namespace { pub mod plan; }
pub mod garbagecollector { pub mod plan; pub mod graph; }
