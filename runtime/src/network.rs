//! A pod's own network: namespaces, and a pair of interfaces with a route to each pod.
//!
//! No bridge: the host routes each pod's single address to the pod's interface, and the pod sends everything to the
//! node's address, so pods reach pods, services and themselves through services without hairpin or bridge settings.
//! The host's end is named after the sandbox and goes with it. Invariant: whatever [`connect`] makes can be removed
//! knowing nothing but the sandbox's id.

mod host_ports;
mod netlink;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::addresses::Cidr;
pub use host_ports::{HostPort, publish_ports};
use netlink::{Route, Socket, Veth};

/// Files of a sandbox's namespaces, below its directory.
pub const NETWORK: &str = "net";
/// Its IPC namespace.
pub const IPC: &str = "ipc";
/// Its UTS namespace.
pub const UTS: &str = "uts";

/// Number of the pod's interface in its own namespace (1 is the loopback).
const POD_INTERFACE: u32 = 2;
const LOOPBACK: u32 = 1;
const DEFAULT_MTU: u32 = 1500;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A step of connecting or disconnecting a pod.
    #[error("{0}")]
    Step(String, #[source] io::Error),
    /// The address is routed elsewhere on this machine.
    #[error("pod address {0} is in use on this machine, by another cluster with the same pod CIDR?")]
    AddressInUse(Ipv4Addr),
    /// A sysctl that would change the whole machine.
    #[error("sysctl {0:?} is not namespaced")]
    Sysctl(String),
    /// The helper thread died.
    #[error("setting up the namespaces failed unexpectedly")]
    Thread,
}

fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
    let what = what.into();
    move |error| NetworkError::Step(what, error)
}

/// What a sandbox's namespaces should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The sandbox's directory.
    pub directory: PathBuf,
    /// Its host name.
    pub hostname: String,
    /// Whether it has a network of its own.
    pub network: bool,
    /// Whether it has IPC objects of its own.
    pub ipc: bool,
    /// Kernel settings of its namespaces.
    pub sysctls: Vec<(String, String)>,
}

/// The inside of a new network namespace.
#[derive(Debug)]
pub struct Inside {
    socket: Socket,
    namespace: OwnedFd,
}

/// Makes a sandbox's namespaces and keeps them by files in its directory.
pub fn make_namespaces(wanted: &Wanted) -> Result<Option<Inside>, NetworkError> {
    if let Some((name, _)) = wanted.sysctls.iter().find(|(name, _)| !is_namespaced(name, wanted)) {
        return Err(NetworkError::Sysctl(name.clone()));
    }
    // Namespaces belong to a thread: one of our own is changed and thrown away.
    std::thread::scope(|scope| scope.spawn(|| enter_new_namespaces(wanted)).join().map_err(|_| NetworkError::Thread)?)
}

fn enter_new_namespaces(wanted: &Wanted) -> Result<Option<Inside>, NetworkError> {
    let kinds = [
        (UTS, CloneFlags::CLONE_NEWUTS, true),
        (IPC, CloneFlags::CLONE_NEWIPC, wanted.ipc),
        (NETWORK, CloneFlags::CLONE_NEWNET, wanted.network),
    ];
    let kinds = kinds.into_iter().filter(|(.., is_wanted)| *is_wanted);
    let flags = kinds.clone().fold(CloneFlags::empty(), |all, (_, flag, _)| all | flag);
    unshare(flags).map_err(|e| step("new namespaces")(e.into()))?;
    nix::unistd::sethostname(&wanted.hostname).map_err(|e| step("host name")(e.into()))?;
    for (name, ..) in kinds {
        let file = wanted.directory.join(name);
        File::create(&file).map_err(step("namespace file"))?;
        let source = format!("/proc/thread-self/ns/{name}");
        let none: Option<&str> = None;
        mount(Some(source.as_str()), &file, none, MsFlags::MS_BIND, none)
            .map_err(|e| step("keeping a namespace")(e.into()))?;
    }
    for (name, value) in &wanted.sysctls {
        write_sysctl(name, value)?;
    }
    if !wanted.network {
        return Ok(None);
    }
    // As containerd: any user of a pod may open low ports and ping.
    for (name, value) in [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")] {
        if !wanted.sysctls.iter().any(|(given, _)| given == name) {
            write_sysctl(name, value)?;
        }
    }
    let socket = Socket::open().map_err(step("netlink"))?;
    socket.set_up(LOOPBACK).map_err(step("loopback"))?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(step("network namespace"))?;
    Ok(Some(Inside { socket, namespace: namespace.into() }))
}

fn is_namespaced(name: &str, wanted: &Wanted) -> bool {
    let of_ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| name.starts_with(p));
    !name.contains('/') && ((name.starts_with("net.") && wanted.network) || (of_ipc && wanted.ipc))
}

fn write_sysctl(name: &str, value: &str) -> Result<(), NetworkError> {
    fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).map_err(step(format!("sysctl {name}")))
}

/// Name of the host's end of a sandbox's network.
pub fn host_interface(sandbox_id: &str) -> String {
    format!("kl{}", &sandbox_id[..sandbox_id.len().min(11)])
}

/// Connects a new network namespace: the pod gets the address, the host a route to it.
pub fn connect(sandbox_id: &str, inside: &Inside, address: Ipv4Addr, cidr: Cidr, mtu: u32) -> Result<(), NetworkError> {
    let name = host_interface(sandbox_id);
    let socket = Socket::open().map_err(step("netlink"))?;
    let veth = Veth {
        name: &name,
        peer_name: "eth0",
        peer_index: POD_INTERFACE,
        peer_namespace: inside.namespace.as_fd(),
        mtu,
    };
    socket.add_veth(&veth).map_err(step(format!("interface {name}")))?;
    let link = nix::net::if_::if_nametoindex(name.as_str()).map_err(|e| step("interface number")(e.into()))?;
    let gateway = cidr.gateway();
    socket.add_address(link, gateway).map_err(step("the node's address"))?;
    socket.set_up(link).map_err(step("the host's interface"))?;
    // Without it the host does not reach a host port as 127.0.0.1; all else works, so a refusal is no error.
    let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"), "1");
    let to_pod = Route { to: Some(address), via: None, link, from: Some(gateway) };
    socket.add_route(&to_pod).map_err(|error| match error.raw_os_error() {
        Some(libc::EEXIST) => NetworkError::AddressInUse(address),
        _ => step("route to the pod")(error),
    })?;
    inside.socket.add_address(POD_INTERFACE, address).map_err(step("the pod's address"))?;
    inside.socket.set_up(POD_INTERFACE).map_err(step("the pod's interface"))?;
    let everywhere = Route { to: None, via: Some(gateway), link: POD_INTERFACE, from: None };
    inside.socket.add_route(&everywhere).map_err(step("the pod's default route"))
}

/// Removes the host's end of a sandbox's network and the namespaces that its directory keeps. Idempotent.
pub fn disconnect(sandbox_id: &str, directory: &Path) -> Result<(), NetworkError> {
    let socket = Socket::open().map_err(step("netlink"))?;
    match socket.delete_link(&host_interface(sandbox_id)) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENODEV)) => return Err(step("interface")(error)),
        _ => {}
    }
    for name in [NETWORK, IPC, UTS] {
        let file = directory.join(name);
        unmount_all(&file).map_err(step("namespace"))?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(step("namespace file")(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Unmounts everything that is mounted at a path; nothing there is no error.
pub fn unmount_all(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a file keeps a namespace (after a reboot it is an empty file).
pub fn keeps_namespace(file: &Path) -> bool {
    nix::sys::statfs::statfs(file).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Opens a connection from inside a pod's network to a port of its own.
pub fn dial(namespace: Option<&Path>, port: u16) -> io::Result<TcpStream> {
    let inside = || -> io::Result<TcpStream> {
        if let Some(file) = namespace {
            setns(File::open(file)?, CloneFlags::CLONE_NEWNET)?;
        }
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_TIMEOUT)
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
}

/// Bytes and errors of a sandbox's network, as the pod counts them: received, sent.
pub fn traffic(sandbox_id: &str) -> Option<[u64; 4]> {
    let directory = Path::new("/sys/class/net").join(host_interface(sandbox_id)).join("statistics");
    let number = |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok();
    // What the host's end sends, the pod receives.
    Some([number("tx_bytes")?, number("tx_errors")?, number("rx_bytes")?, number("rx_errors")?])
}

/// The largest packet that leaves this machine in one piece.
pub fn mtu() -> u32 {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default =
        routes.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|f| f.get(1) == Some(&"00000000"));
    let name = default.and_then(|f| f.first().map(|n| (*n).to_owned()));
    let mtu = name.and_then(|n| fs::read_to_string(format!("/sys/class/net/{n}/mtu")).ok());
    mtu.and_then(|m| m.trim().parse().ok()).unwrap_or(DEFAULT_MTU)
}

/// Lets pods be routed, and makes them speak with the machine's address outside of it.
pub async fn prepare_host(cidr: Cidr) {
    if let Err(error) = fs::write("/proc/sys/net/ipv4/ip_forward", "1") {
        tracing::warn!(%error, "ip_forward cannot be set: pods reach only this machine");
    }
    let table = masquerade_table(cidr);
    let rules = format!(
        "table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{\n  chain postrouting {{\n    \
         type nat hook postrouting priority srcnat; policy accept;\n    \
         ip saddr {cidr} oifname != \"lo\" oifname != \"kl*\" masquerade\n  }}\n}}\n"
    );
    if let Err(error) = nft(&rules).await {
        tracing::warn!(%error, "nft: pods reach only this machine");
    }
}

/// Undoes [`prepare_host`] as far as it is this runtime's own.
pub async fn restore_host(cidr: Cidr) {
    publish_ports(cidr, &[]).await;
    let table = masquerade_table(cidr);
    // Without nft there never was a table.
    let _ = nft(&format!("table ip {table} {{}}\ndelete table ip {table}\n")).await;
}

fn masquerade_table(cidr: Cidr) -> String {
    format!("kubelab_pods_{}", cidr.to_string().replace(['.', '/'], "_"))
}

async fn nft(rules: &str) -> io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let mut child = tokio::process::Command::new("nft")
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rules.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_sysctls() {
        let wanted = |network| Wanted {
            directory: PathBuf::new(),
            hostname: String::new(),
            network,
            ipc: true,
            sysctls: Vec::new(),
        };
        for (name, network, allowed) in [
            ("net.core.somaxconn", true, true),
            ("net.core.somaxconn", false, false),
            ("kernel.shmmax", true, true),
            ("kernel.panic", true, false),
            ("net/../kernel.panic", true, false),
        ] {
            assert_eq!(is_namespaced(name, &wanted(network)), allowed, "{name}");
        }
    }

    #[test]
    fn interface_names_fit() {
        assert_eq!(host_interface(&"a".repeat(64)).len(), 13);
    }
}
