//! SIGTERM and SIGINT as a cancellation token.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at once, so that a shutdown
/// that hangs can still be ended from the keyboard.
pub fn shutdown_token() -> CancellationToken {
    let token = CancellationToken::new();
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be received: the process ends only when it is killed");
        return token;
    };
    let cancel = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                biased;
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!(signal = name, "shutting down");
                cancel.cancel();
            } else {
                tracing::warn!(signal = name, "second signal: ending at once");
                std::process::exit(130);
            }
        }
    });
    token
}
