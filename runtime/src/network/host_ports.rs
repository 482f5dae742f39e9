//! Ports of the host that belong to pods (`hostPort`), by nftables.
//!
//! The table is written anew, whole, at every change, and is not there at all while no pod asks for a port.

use std::net::Ipv4Addr;
use std::path::Path;

use cri::v1;

use super::nft;
use crate::addresses::Cidr;

/// A port of the host and the pod's port it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    protocol: &'static str,
    host_ip: Option<Ipv4Addr>,
    host_port: u16,
    pod_ip: Ipv4Addr,
    pod_port: u16,
}

impl HostPort {
    /// Of a mapping; none when it asks for no port of the host.
    pub fn new(mapping: &v1::PortMapping, pod_ip: Ipv4Addr) -> Option<Self> {
        let protocol = match mapping.protocol() {
            v1::Protocol::Tcp => "tcp",
            v1::Protocol::Udp => "udp",
            v1::Protocol::Sctp => "sctp",
        };
        let port = |port: i32| u16::try_from(port).ok().filter(|p| *p > 0);
        Some(Self {
            protocol,
            host_ip: mapping.host_ip.parse().ok().filter(|ip: &Ipv4Addr| !ip.is_unspecified()),
            host_port: port(mapping.host_port)?,
            pod_ip,
            pod_port: port(mapping.container_port)?,
        })
    }

    fn rule(&self) -> String {
        let to = self.host_ip.map_or("fib daddr type local".to_owned(), |ip| format!("ip daddr {ip}"));
        format!("{to} {} dport {} dnat to {}:{}", self.protocol, self.host_port, self.pod_ip, self.pod_port)
    }
}

/// Makes these the host's ports, and no others.
pub async fn publish_ports(cidr: Cidr, ports: &[HostPort]) {
    if ports.is_empty() && !Path::new("/proc/net/netfilter").exists() {
        return;
    }
    let table = format!("kubelab_ports_{}", cidr.to_string().replace(['.', '/'], "_"));
    match nft(&rules(&table, cidr, ports)).await {
        Err(error) if !ports.is_empty() => tracing::warn!(%error, "nft: ports of the host do not lead to pods"),
        _ => {}
    }
}

fn rules(table: &str, cidr: Cidr, ports: &[HostPort]) -> String {
    let reset = format!("table ip {table} {{}}\ndelete table ip {table}\n");
    if ports.is_empty() {
        return reset;
    }
    let rules: String = ports.iter().map(|p| format!("    {}\n", p.rule())).collect();
    let chain =
        |name: &str, hook: &str| format!("  chain {name} {{\n    type nat hook {hook}; policy accept;\n{rules}  }}\n");
    let (from_outside, from_here) =
        (chain("prerouting", "prerouting priority dstnat"), chain("output", "output priority -100"));
    // What the host says to itself must come back to it.
    let back = format!(
        "  chain postrouting {{\n    type nat hook postrouting priority srcnat; policy accept;\n    \
         ip saddr 127.0.0.0/8 ip daddr {cidr} masquerade\n  }}\n"
    );
    format!("{reset}table ip {table} {{\n{from_outside}{from_here}{back}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_become_rules() {
        let pod = Ipv4Addr::new(10, 0, 0, 5);
        let mapping = |host_port, host_ip: &str| v1::PortMapping {
            protocol: v1::Protocol::Tcp.into(),
            container_port: 80,
            host_port,
            host_ip: host_ip.to_owned(),
        };
        assert_eq!(HostPort::new(&mapping(0, ""), pod), None);
        let rule = |host_ip| HostPort::new(&mapping(8080, host_ip), pod).map(|p| p.rule()).unwrap_or_default();
        assert_eq!(rule(""), "fib daddr type local tcp dport 8080 dnat to 10.0.0.5:80");
        assert_eq!(rule("127.0.0.1"), "ip daddr 127.0.0.1 tcp dport 8080 dnat to 10.0.0.5:80");
        let cidr = "10.0.0.0/24".parse().expect("valid");
        assert_eq!(rules("t", cidr, &[]).lines().count(), 2);
    }
}
