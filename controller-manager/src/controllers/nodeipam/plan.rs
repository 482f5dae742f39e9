//! Cutting the cluster's pod network into one block per node.
//!
//! Entry point: [`Blocks::lowest_free`]. Pure; the lowest free block is taken, so that the same order of nodes always
//! gives the same addresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The cluster's pod network and the size of a node's part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    network: u32,
    prefix: u8,
    node_prefix: u8,
}

/// Why a network cannot be cut as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// Not of the form `10.244.0.0/16`.
    #[error("invalid cluster CIDR {0:?}: must be an IPv4 network such as 10.244.0.0/16")]
    Syntax(String),
    /// A node's block would be larger than the network or than a node can use.
    #[error("invalid node mask size {node}: must be between the cluster CIDR's mask size {cluster} and 30")]
    Mask {
        /// Of the network.
        cluster: u8,
        /// Of a node's block.
        node: u8,
    },
}

impl Blocks {
    /// Parses a network such as `10.244.0.0/16`, to be cut into blocks with a mask of `node_prefix` bits.
    pub fn parse(cidr: &str, node_prefix: u8) -> Result<Self, ParseError> {
        let (network, prefix) = parse_cidr(cidr).ok_or_else(|| ParseError::Syntax(cidr.to_owned()))?;
        if node_prefix < prefix || node_prefix > 30 {
            return Err(ParseError::Mask { cluster: prefix, node: node_prefix });
        }
        Ok(Self { network: network & mask(prefix), prefix, node_prefix })
    }

    /// How many blocks there are.
    pub fn len(&self) -> u32 {
        1u32.checked_shl(u32::from(self.node_prefix - self.prefix)).unwrap_or(u32::MAX)
    }

    /// Whether there is none; there is always one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lowest block that none of the given networks touches.
    pub fn lowest_free<'a>(&self, taken: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let mut used = BTreeSet::new();
        for (network, prefix) in taken.into_iter().filter_map(parse_cidr) {
            let (first, last) = (network & mask(prefix), network | !mask(prefix));
            if last < self.network || first > (self.network | !mask(self.prefix)) {
                continue;
            }
            let last = last.min(self.network | !mask(self.prefix));
            used.extend(self.index(first.max(self.network))..=self.index(last));
        }
        let free = (0..self.len()).find(|index| !used.contains(index))?;
        let address = Ipv4Addr::from(self.network + (free << (32 - self.node_prefix)));
        Some(format!("{address}/{}", self.node_prefix))
    }

    fn index(&self, address: u32) -> u32 {
        (address - self.network) >> (32 - self.node_prefix)
    }
}

fn parse_cidr(cidr: &str) -> Option<(u32, u8)> {
    let (address, prefix) = cidr.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix))?;
    Some((address.parse::<Ipv4Addr>().ok()?.into(), prefix))
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_block_is_taken() {
        let table: [(&str, u8, &[&str], Option<&str>); 7] = [
            ("10.244.0.0/16", 24, &[], Some("10.244.0.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.1.0/24"], Some("10.244.2.0/24")),
            ("10.244.0.0/16", 24, &["10.244.1.0/24"], Some("10.244.0.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/22"], Some("10.244.4.0/24")),
            ("10.244.0.0/16", 24, &["192.168.0.0/24", "nonsense"], Some("10.244.0.0/24")),
            ("10.244.0.0/23", 24, &["10.244.0.0/24", "10.244.1.0/24"], None),
            ("10.0.0.0/8", 8, &["10.9.0.0/16"], None),
        ];
        for (cidr, node, taken, expected) in table {
            let blocks = Blocks::parse(cidr, node).unwrap();
            assert_eq!(blocks.lowest_free(taken.iter().copied()).as_deref(), expected, "{cidr} {taken:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Blocks::parse("10.244.0.0", 24), Err(ParseError::Syntax("10.244.0.0".into())));
        assert_eq!(Blocks::parse("10.244.0.0/26", 24), Err(ParseError::Mask { cluster: 26, node: 24 }));
    }
}
