//! Admission webhooks as clients see them, with webhooks that answer over TLS in this process.
//!
//! Time is the machine's here: sockets and virtual time do not go together.

#[path = "webhooks/conversion.rs"]
mod conversion;
#[path = "webhooks/dispatch.rs"]
mod dispatch;
#[path = "webhooks/failures.rs"]
mod failures;
#[path = "webhooks/hooks.rs"]
mod hooks;
#[path = "webhooks/matching.rs"]
mod matching;
#[path = "api/server.rs"]
#[allow(dead_code, reason = "each suite uses its part of it")]
mod server;
