//! Which pod gets which IP address: a pool over the node's pod CIDR. Pure.
//!
//! The first address of the range is the node's own (the pods' gateway). Addresses are given out in turn, so that one
//! just released is the last to come again. Invariant: an address taken is not taken again before it is released.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 range such as `10.244.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

/// Why a text is no usable range of pod addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CidrError {
    /// Not of the form a.b.c.d/n.
    #[error("{0:?} is not an IPv4 range such as 10.244.0.0/24")]
    Malformed(String),
    /// No room for the gateway and one pod.
    #[error("{0:?} is too small for pods: it needs a prefix of at most /30")]
    TooSmall(String),
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        match prefix {
            0..=30 => Ok(Self { base: u32::from(address) & mask(prefix), prefix }),
            31..=32 => Err(CidrError::TooSmall(text.to_owned())),
            33.. => Err(malformed()),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl Cidr {
    /// The node's own address in the range: the first one.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Offsets usable for pods: all but the network's, the gateway's and the broadcast address.
    fn pods(&self) -> std::ops::Range<u32> {
        2..((1u64 << (32 - self.prefix)) - 1) as u32
    }
}

fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

/// The addresses of a node's pods.
#[derive(Debug)]
pub struct AddressPool {
    cidr: Cidr,
    taken: BTreeSet<Ipv4Addr>,
    next: u32,
}

impl AddressPool {
    /// A pool with every address free.
    pub fn new(cidr: Cidr) -> Self {
        Self { cidr, taken: BTreeSet::new(), next: cidr.pods().start }
    }

    /// The range it draws from.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The next free address; none when all are taken.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let pods = self.cidr.pods();
        let free = (self.next..pods.end)
            .chain(pods.start..self.next)
            .find(|offset| !self.taken.contains(&Ipv4Addr::from(self.cidr.base + offset)))?;
        self.next = if free + 1 < pods.end { free + 1 } else { pods.start };
        let address = Ipv4Addr::from(self.cidr.base + free);
        self.taken.insert(address);
        Some(address)
    }

    /// Marks an address found in use (after a restart).
    pub fn claim(&mut self, address: Ipv4Addr) {
        self.taken.insert(address);
        if self.cidr.contains(address) {
            let after = u32::from(address) - self.cidr.base + 1;
            self.next = if self.cidr.pods().contains(&after) { after } else { self.cidr.pods().start };
        }
    }

    /// Gives an address back; one that is not taken is ignored.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse() {
        let cidr: Cidr = "10.244.3.77/24".parse().expect("valid");
        assert_eq!((cidr.to_string().as_str(), cidr.gateway()), ("10.244.3.0/24", Ipv4Addr::new(10, 244, 3, 1)));
        assert!(cidr.contains(Ipv4Addr::new(10, 244, 3, 200)) && !cidr.contains(Ipv4Addr::new(10, 244, 4, 1)));
        for bad in ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/33", "fd00::/64"] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError::Malformed(bad.to_owned())));
        }
        assert!(matches!("10.0.0.0/31".parse::<Cidr>(), Err(CidrError::TooSmall(_))));
    }

    #[test]
    fn addresses_go_round() {
        let mut pool = AddressPool::new("10.0.0.0/29".parse().expect("valid"));
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).map(|a| a.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        pool.release(Ipv4Addr::new(10, 0, 0, 5));
        pool.release(Ipv4Addr::new(10, 0, 0, 3));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 3)));
        pool.release(Ipv4Addr::new(10, 0, 0, 3));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 5)), "the one just released comes last");
    }

    #[test]
    fn a_claimed_address_is_not_given() {
        let mut pool = AddressPool::new("10.0.0.0/30".parse().expect("valid"));
        pool.claim(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(pool.take(), None);
    }
}
