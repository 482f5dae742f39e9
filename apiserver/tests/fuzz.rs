//! Every decoder of outside input, fed with mutations of good and of malicious examples: none panics, none overflows the small
//! stack of a server's thread, none takes time or memory out of proportion, and what is read is written the same.
//!
//! `FUZZ_SECONDS` says how long each target is run (3), `FUZZ_SEED` with which beginning (1); a failure shows its input.

#[path = "fuzz/bombs.rs"]
mod bombs;
#[path = "fuzz/decoders.rs"]
mod decoders;
#[path = "fuzz/harness.rs"]
mod harness;
#[path = "fuzz/requests.rs"]
mod requests;
#[path = "fuzz/seeds.rs"]
mod seeds;

#[global_allocator]
static ALLOCATOR: harness::Counting = harness::Counting;
