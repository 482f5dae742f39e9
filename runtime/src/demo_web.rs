//! The web server of the built-in demo image: it says who and where it is, which is all a first pod needs.
//!
//! Listens on port 80, or on `PORT`. Ends at SIGTERM, as process 1 of a container should.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use axum::Router;
use axum::http::Uri;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const PORT: u16 = 80;

/// Serves until it is told to end.
pub fn run() -> ExitCode {
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(PORT);
        runtime.block_on(serve(port))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-web: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(port: u16) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await;
    // A kernel without IPv6 is served on IPv4.
    let listener = match listener {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await?,
    };
    println!("demo-web: listening on {}", listener.local_addr()?);
    let router = Router::new().fallback(answer);
    tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        served = axum::serve(listener, router).into_future() => served,
    }
}

async fn answer(uri: Uri) -> String {
    let hostname = nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    println!("demo-web: {uri}");
    format!("hostname: {hostname}\naddress: {}\npath: {uri}\n", address())
}

/// The pod's own address, as its first interface has it.
fn address() -> String {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|i| i.address.and_then(|a| a.as_sockaddr_in().map(|a| a.ip())));
    let own = addresses.into_iter().find(|a| !a.is_loopback());
    own.map(|a| a.to_string()).unwrap_or_else(|| "127.0.0.1".to_owned())
}
