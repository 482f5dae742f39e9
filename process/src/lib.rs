//! What a process gets from its machine: time, chance, logs, signals, health.
//!
//! Invariant: no other crate reads the wall clock or draws random numbers by itself; with [`Clock::starting_at`] and
//! [`Rng::seeded`] on tokio's paused time a whole cluster runs the same way twice.

pub mod clock;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod rng;
pub mod signals;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

pub use clock::Clock;
pub use rng::Rng;

/// The name of this machine, for identities and logs.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Where others reach a server that listens at `bind`: everywhere means the address of the default route's interface,
/// loopback on a machine without one.
pub fn reachable_address(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() {
        return bind;
    }
    // Addresses for documentation (RFC 5737, RFC 3849): connecting a datagram socket sends nothing, it only asks the
    // routing table.
    let (elsewhere, loopback): (IpAddr, IpAddr) = match bind {
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let route = UdpSocket::bind((bind, 0)).and_then(|socket| {
        socket.connect((elsewhere, 9))?;
        socket.local_addr()
    });
    route.map_or(loopback, |address| address.ip())
}
