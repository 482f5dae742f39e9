//! What there is to give out, and which of it a Service has. Pure, but for the dice.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use process::Rng;

/// An address or a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// A cluster address.
    Address(IpAddr),
    /// A port on every node.
    Port(u16),
}

/// What is wrong with a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of service addresses such as 10.96.0.0/16")]
pub struct CidrError(String);

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u32,
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(text.to_owned());
        let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
        let range = Self { network, prefix };
        // Fewer than 4 addresses leave nothing to give; in IPv6 no more than 2^64 make sense.
        let sensible = prefix <= range.width() - 2 && range.width() - prefix <= 64;
        if sensible { Ok(Self { network: range.at(0), prefix }) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Cidr {
    /// What no Service gets: the address that stands for the range.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// The address of the `kubernetes` Service.
    pub fn first(&self) -> IpAddr {
        self.at(1)
    }

    /// The family of its addresses, as Services name it.
    pub fn family(&self) -> &'static str {
        if self.network.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn width(&self) -> u32 {
        if self.network.is_ipv4() { 32 } else { 128 }
    }

    /// How many addresses there are.
    fn size(&self) -> u128 {
        1 << (self.width() - self.prefix)
    }

    fn at(&self, offset: u128) -> IpAddr {
        let bits = number(self.network) & !(self.size() - 1) | offset;
        match self.network {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or_default())),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(bits)),
        }
    }

    /// Whether the address can be given to a Service.
    pub fn gives(&self, address: IpAddr) -> bool {
        let offset = number(address) & (self.size() - 1);
        address.is_ipv4() == self.network.is_ipv4()
            && number(address) - offset == number(self.network)
            && offset != 0
            && (address.is_ipv6() || offset != self.size() - 1)
    }

    /// An address that is not taken, if there is one: by chance from the upper part, so that addresses that people choose find
    /// the lower one free; from the lower part when the upper is full.
    pub fn pick(&self, rng: &Rng, taken: &BTreeSet<Slot>) -> IpAddr {
        let last = self.size() - 1 - u128::from(self.network.is_ipv4());
        let reserved = (self.size() / 16).clamp(16, 256).min(last);
        let parts = [(reserved + 1, last), (1, reserved)];
        for (first, last) in parts.into_iter().filter(|(first, last)| first <= last) {
            let span = last - first + 1;
            let start = u128::from(rng.range(0..u64::try_from(span).unwrap_or(u64::MAX)));
            let tries = span.min(taken.len() as u128 + 1);
            let addresses = (0..tries).map(|step| self.at(first + (start + step) % span));
            if let Some(free) = addresses.into_iter().find(|address| !taken.contains(&Slot::Address(*address))) {
                return free;
            }
        }
        self.first()
    }
}

/// A port that is not taken, if there is one.
pub fn pick_port(ports: &RangeInclusive<u16>, rng: &Rng, taken: &BTreeSet<Slot>) -> u16 {
    let (first, span) = (*ports.start(), u64::from(*ports.end() - *ports.start()) + 1);
    let start = rng.range(0..span);
    let port = |step: u64| first + u16::try_from((start + step) % span).unwrap_or_default();
    (0..span).map(port).find(|port| !taken.contains(&Slot::Port(*port))).unwrap_or(first)
}

/// What a Service has.
pub fn slots_of(service: &Service) -> Vec<Slot> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let addresses =
        spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).map(Slot::Address);
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port).chain(spec.health_check_node_port);
    let ports = ports.filter_map(|port| u16::try_from(port).ok()).filter(|port| *port != 0).map(Slot::Port);
    addresses.chain(ports).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether the Service has a cluster address, given or to be given.
pub fn needs_address(spec: &ServiceSpec) -> bool {
    let headless = spec.cluster_ip.as_deref() == Some("None");
    matches!(kind(spec), "ClusterIP" | "NodePort" | "LoadBalancer") && !headless
}

/// Whether its ports may be open on every node.
pub fn is_on_nodes(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

/// Whether ports are given to those that did not ask for one.
pub fn allocates_node_ports(spec: &ServiceSpec) -> bool {
    kind(spec) == "NodePort" || spec.allocate_load_balancer_node_ports.unwrap_or(true)
}

/// Whether balancers ask the nodes which of them has a backend.
pub fn needs_health_check(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_bounded() {
        let range: Cidr = "10.96.3.0/16".parse().expect("a range");
        assert_eq!((range.to_string().as_str(), range.first().to_string().as_str()), ("10.96.0.0/16", "10.96.0.1"));
        for wrong in ["10.96.0.0", "10.96.0.0/31", "x/8", "fd00::/32"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
        let given = ["10.96.0.1", "10.96.0.0", "10.96.255.255", "8.8.8.8", "fd00::1"]
            .map(|address| range.gives(address.parse().expect("an address")));
        assert_eq!(given, [true, false, false, false, false]);
    }

    #[test]
    fn everything_is_given_out_and_nothing_twice() {
        for (range, usable) in [("10.0.0.0/24", 254), ("10.0.0.0/29", 6), ("fd00::/124", 15)] {
            let (range, rng): (Cidr, _) = (range.parse().unwrap(), Rng::seeded(1));
            let mut taken = BTreeSet::new();
            for _ in 0..usable {
                let address = range.pick(&rng, &taken);
                assert!(range.gives(address));
                assert!(taken.insert(Slot::Address(address)), "{address} twice");
            }
            assert!(taken.contains(&Slot::Address(range.pick(&rng, &taken))), "{range} is full");
        }
        let (ports, rng) = (30000..=30003, Rng::seeded(1));
        let mut taken = BTreeSet::new();
        for _ in 0..4 {
            assert!(taken.insert(Slot::Port(pick_port(&ports, &rng, &taken))));
        }
    }
}
