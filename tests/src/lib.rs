//! What the suites share: the released binary as a user runs it, other programs as clients, and waiting without sleeping.
//!
//! A cluster of a test lives in a folder of its own and is deleted when the test ends, however it ends.

pub mod cluster;
pub mod command;
pub mod files;
pub mod simulation;
pub mod transcript;
