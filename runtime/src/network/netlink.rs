//! The few netlink messages that connect a pod: links, addresses, routes.
//!
//! Plain blocking calls on one socket, because a socket stays in the network namespace where it was opened: that is
//! how the pod's side is configured from outside. Each call waits for the kernel's answer.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const SCOPE_LINK: u8 = 253;
const PROTOCOL_STATIC: u8 = 4;
const ONLINK: u32 = 4;

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// Two connected interfaces.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Interface number of the other end.
    pub peer_index: u32,
    /// Namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
    /// Largest packet.
    pub mtu: u32,
}

/// A route for packets to an address or, without one, to everywhere.
#[derive(Debug, Default)]
pub struct Route {
    /// One address; none means the default route.
    pub to: Option<Ipv4Addr>,
    /// The next hop, which is taken to be on the link.
    pub via: Option<Ipv4Addr>,
    /// The interface's number.
    pub link: u32,
    /// The address to speak from.
    pub from: Option<Ipv4Addr>,
}

impl Socket {
    /// Opens a socket here.
    pub fn open() -> io::Result<Self> {
        // SAFETY: a plain system call; its answer is a descriptor that only we know.
        match unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) } {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) })),
        }
    }

    /// Makes a pair of interfaces.
    pub fn add_veth(&self, veth: &Veth<'_>) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, REQUEST | CREATE, &link_header(0, 0));
        message.text(libc::IFLA_IFNAME, veth.name);
        message.number(libc::IFLA_MTU, veth.mtu);
        message.nested(libc::IFLA_LINKINFO, |info| {
            info.bytes(IFLA_INFO_KIND, b"veth");
            info.nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |peer| {
                    peer.buffer.extend_from_slice(&link_header(veth.peer_index, 0));
                    peer.text(libc::IFLA_IFNAME, veth.peer_name);
                    peer.number(libc::IFLA_MTU, veth.mtu);
                    peer.number(libc::IFLA_NET_NS_FD, veth.peer_namespace.as_raw_fd() as u32);
                });
            });
        });
        self.call(message)
    }

    /// Switches an interface on.
    pub fn set_up(&self, link: u32) -> io::Result<()> {
        self.call(Message::new(libc::RTM_NEWLINK, REQUEST, &link_header(link, libc::IFF_UP as u32)))
    }

    /// Deletes an interface (and its peer).
    pub fn delete_link(&self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_DELLINK, REQUEST, &link_header(0, 0));
        message.text(libc::IFLA_IFNAME, name);
        self.call(message)
    }

    /// Gives an interface an address of its own.
    pub fn add_address(&self, link: u32, address: Ipv4Addr) -> io::Result<()> {
        let mut header = vec![libc::AF_INET as u8, 32, 0, 0];
        header.extend_from_slice(&link.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWADDR, REQUEST | CREATE, &header);
        message.bytes(libc::IFA_LOCAL, &address.octets());
        message.bytes(libc::IFA_ADDRESS, &address.octets());
        self.call(message)
    }

    /// Adds a route; there must be none for the same destination.
    pub fn add_route(&self, route: &Route) -> io::Result<()> {
        let (length, scope) = match (route.to, route.via) {
            (Some(_), None) => (32, SCOPE_LINK),
            (Some(_), Some(_)) => (32, 0),
            (None, _) => (0, 0),
        };
        let flags = if route.via.is_some() { ONLINK } else { 0 };
        let mut header =
            vec![libc::AF_INET as u8, length, 0, 0, libc::RT_TABLE_MAIN, PROTOCOL_STATIC, scope, libc::RTN_UNICAST];
        header.extend_from_slice(&flags.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWROUTE, REQUEST | CREATE, &header);
        let addresses = [(libc::RTA_DST, route.to), (libc::RTA_GATEWAY, route.via), (libc::RTA_PREFSRC, route.from)];
        for (kind, address) in addresses {
            if let Some(address) = address {
                message.bytes(kind, &address.octets());
            }
        }
        message.number(libc::RTA_OIF, route.link);
        self.call(message)
    }

    fn call(&self, message: Message) -> io::Result<()> {
        let bytes = message.finish();
        let descriptor = self.0.as_raw_fd();
        // SAFETY: the buffers outlive the calls, and their lengths are passed along.
        let sent = unsafe { libc::send(descriptor, bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0u8; 4096];
        let received = unsafe { libc::recv(descriptor, answer.as_mut_ptr().cast(), answer.len(), 0) };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        // Behind its header an answer holds 0, or an error number below it.
        match answer.get(16..20).map(|code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]])) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The kernel's `ifinfomsg`.
fn link_header(index: u32, up: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&up.to_ne_bytes());
    header[12..16].copy_from_slice(&up.to_ne_bytes());
    header
}

struct Message {
    buffer: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut buffer = vec![0; 16];
        buffer[4..6].copy_from_slice(&kind.to_ne_bytes());
        buffer[6..8].copy_from_slice(&flags.to_ne_bytes());
        buffer.extend_from_slice(header);
        Self { buffer }
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0, 0]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.buffer.len() - start) as u16;
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        let padded = self.buffer.len().next_multiple_of(4);
        self.buffer.resize(padded, 0);
    }

    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.buffer.extend_from_slice(value));
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.buffer.len() as u32;
        self.buffer[..4].copy_from_slice(&length.to_ne_bytes());
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_count_their_own_length() {
        let mut message = Message::new(16, 1, &[]);
        message.nested(18, |info| info.text(3, "eth0"));
        let bytes = message.finish();
        assert_eq!(bytes.len(), 16 + 4 + 12);
        assert_eq!(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), 32);
        assert_eq!(u16::from_ne_bytes([bytes[20], bytes[21]]), 9, "a header and five letters");
    }
}
