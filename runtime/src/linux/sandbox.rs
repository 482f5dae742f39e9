//! Sandboxes: what the containers of a pod share.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use cri::v1::{self, ContainerEventType, NamespaceMode};
use rustix::mount::MountAttrFlags;

use super::{KnownSandbox, Linux, LinuxError, Result, apart, at};
use crate::addresses::Cidr;
use crate::disk::{Progress, SandboxRecord};
use crate::network::{self, HostPort, NetworkError, Wanted};
use crate::record::Sandbox;

/// Parent of the cgroups of a pod for which the kubelet names none.
const CGROUP_PARENT: &str = "/kubelab";
const SHM_SIZE: &str = "65536k";
/// How many addresses are tried when others use them without our knowledge.
const ADDRESS_TRIES: usize = 16;

impl Linux {
    /// Makes a sandbox and answers its id.
    pub async fn run_sandbox(self: &Arc<Self>, request: v1::RunPodSandboxRequest) -> Result<String> {
        let config = request.config.ok_or_else(|| LinuxError::Request("config is required".to_owned()))?;
        if !request.runtime_handler.is_empty() {
            return Err(LinuxError::Request(format!("no runtime for {:?} is configured", request.runtime_handler)));
        }
        let sandbox = Sandbox {
            id: self.new_id(),
            config,
            runtime_handler: request.runtime_handler,
            created_at: self.now(),
            ready: true,
            ip: None,
        };
        let linux = self.clone();
        let made = apart(move || linux.make_sandbox(sandbox)).await?;
        let id = made.id.clone();
        let known = KnownSandbox { sandbox: made.clone(), turn: Arc::default() };
        self.lock().sandboxes.insert(id.clone(), known);
        if !made.config.port_mappings.is_empty() {
            self.publish_ports().await;
        }
        self.publish(&id, &made, ContainerEventType::ContainerCreatedEvent);
        self.publish(&id, &made, ContainerEventType::ContainerStartedEvent);
        Ok(id)
    }

    fn make_sandbox(&self, sandbox: Sandbox) -> Result<Sandbox> {
        let id = sandbox.id.clone();
        let (uses_host, mut sandbox) = (sandbox.namespaces().network() == NamespaceMode::Node, sandbox);
        for attempt in 1.. {
            sandbox.ip = if uses_host { None } else { Some(self.take_address()?) };
            match self.furnish(&sandbox) {
                Ok(()) => break,
                Err(error) => {
                    self.clear_sandbox(&id, sandbox.ip)?;
                    let taken = matches!(error, LinuxError::Network(NetworkError::AddressInUse(_)));
                    if !taken || attempt == ADDRESS_TRIES {
                        return Err(error);
                    }
                    // Stays taken: somebody else has it.
                    sandbox.ip.into_iter().for_each(|ip| self.claim(ip));
                }
            }
        }
        Ok(sandbox)
    }

    fn take_address(&self) -> Result<Ipv4Addr> {
        let mut state = self.lock();
        let pool = state.addresses.as_mut();
        let pool = pool.ok_or_else(|| LinuxError::Address("no pod CIDR is set yet".to_owned()))?;
        let range = pool.cidr();
        pool.take().ok_or_else(|| LinuxError::Address(format!("no free address in {range}")))
    }

    fn claim(&self, address: Ipv4Addr) {
        if let Some(pool) = self.lock().addresses.as_mut() {
            pool.claim(address);
        }
    }

    fn furnish(&self, sandbox: &Sandbox) -> Result<()> {
        let directory = self.sandbox_directory(&sandbox.id);
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        SandboxRecord::new(sandbox, Progress::Making).write(&directory).map_err(at(&directory))?;
        write_files(&directory, &sandbox.config).map_err(at(&directory))?;
        let options = sandbox.namespaces();
        let linux = sandbox.config.linux.clone().unwrap_or_default();
        let wanted = Wanted {
            directory: directory.clone(),
            hostname: hostname(&sandbox.config),
            network: options.network() != NamespaceMode::Node,
            ipc: options.ipc() != NamespaceMode::Node,
            sysctls: linux.sysctls.into_iter().collect(),
        };
        let inside = network::make_namespaces(&wanted)?;
        if wanted.ipc {
            mount_shm(&directory.join("shm")).map_err(at(&directory.join("shm")))?;
        }
        if let (Some(inside), Some(ip)) = (inside, sandbox.ip) {
            network::connect(&sandbox.id, &inside, ip, self.cidr()?, self.mtu)?;
        }
        if linux.security_context.and_then(|s| s.namespace_options).is_some_and(|o| o.pid() == NamespaceMode::Pod) {
            self.start_pause(sandbox, &directory)?;
        }
        SandboxRecord::new(sandbox, Progress::Ready).write(&directory).map_err(at(&directory))
    }

    fn cidr(&self) -> Result<Cidr> {
        let cidr = self.lock().addresses.as_ref().map(|pool| pool.cidr());
        cidr.ok_or_else(|| LinuxError::Address("no pod CIDR is set yet".to_owned()))
    }

    /// Ends all that runs in a sandbox and gives its network back. Idempotent.
    pub async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(known) = self.known_sandbox(id) else { return Ok(()) };
        // First of all: nothing is started in it any more.
        let was_ready = match self.lock().sandboxes.get_mut(id) {
            Some(known) => std::mem::replace(&mut known.sandbox.ready, false),
            None => return Ok(()),
        };
        let _turn = known.turn.lock().await;
        let directory = self.sandbox_directory(id);
        SandboxRecord::new(&known.sandbox, Progress::Stopped).write(&directory).map_err(at(&directory))?;
        let kills = self.containers().into_iter().filter(|c| c.sandbox_id == id && c.is_running());
        let kills = kills.map(|container| async move { self.kill(&container.id).await });
        futures::future::join_all(kills).await.into_iter().collect::<Result<Vec<()>>>()?;
        let (linux, owned, ip) = (self.clone(), id.to_owned(), known.sandbox.ip);
        apart(move || linux.release_sandbox(&owned, ip)).await?;
        let stopped = self.lock().sandboxes.get_mut(id).map(|known| {
            known.sandbox.ip = None;
            known.sandbox.clone()
        });
        if !known.sandbox.config.port_mappings.is_empty() {
            self.publish_ports().await;
        }
        if let (true, Some(sandbox)) = (was_ready, stopped) {
            self.publish(id, &sandbox, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }

    /// Removes a sandbox with all its containers. Idempotent.
    pub async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(known) = self.known_sandbox(id) else { return Ok(()) };
        self.stop_sandbox(id).await?;
        for container in self.containers().into_iter().filter(|c| c.sandbox_id == id) {
            self.remove_container(&container.id).await?;
        }
        let _turn = known.turn.lock().await;
        let (linux, owned) = (self.clone(), id.to_owned());
        apart(move || linux.clear_sandbox(&owned, None)).await?;
        self.hierarchies.remove_empty_parents(&format!("{}/x", cgroup_parent(&known.sandbox.config)));
        if self.lock().sandboxes.remove(id).is_some() {
            let gone = Sandbox { ready: false, ip: None, ..known.sandbox };
            self.publish(id, &gone, ContainerEventType::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// Tells the host which of its ports belong to which pods.
    pub(super) async fn publish_ports(&self) {
        let Ok(cidr) = self.cidr() else { return };
        let _turn = self.ports_turn.lock().await;
        let pods = self.sandboxes();
        let ports = pods.iter().filter(|s| s.ready).flat_map(|s| {
            let mappings = s.config.port_mappings.iter();
            mappings.filter_map(|m| s.ip.and_then(|ip| HostPort::new(m, ip)))
        });
        network::publish_ports(cidr, &ports.collect::<Vec<_>>()).await;
    }

    /// Network, shared memory, pause process and address of a sandbox. Needs no more than its id.
    pub(super) fn release_sandbox(&self, id: &str, ip: Option<Ipv4Addr>) -> Result<()> {
        let directory = self.sandbox_directory(id);
        self.stop_pause(id, &directory)?;
        network::disconnect(id, &directory)?;
        network::unmount_all(&directory.join("shm")).map_err(at(&directory))?;
        if let (Some(ip), Some(pool)) = (ip, self.lock().addresses.as_mut()) {
            pool.release(ip);
        }
        Ok(())
    }

    /// Everything of a sandbox, its record last.
    pub(super) fn clear_sandbox(&self, id: &str, ip: Option<Ipv4Addr>) -> Result<()> {
        self.release_sandbox(id, ip)?;
        let directory = self.sandbox_directory(id);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&directory)(error)),
            _ => Ok(()),
        }
    }
}

/// Where the cgroups of a pod are.
pub(super) fn cgroup_parent(config: &v1::PodSandboxConfig) -> String {
    let given = config.linux.as_ref().map_or("", |l| l.cgroup_parent.as_str());
    let parts: Vec<_> = given.split('/').filter(|p| !p.is_empty() && *p != "." && *p != "..").collect();
    if parts.is_empty() { CGROUP_PARENT.to_owned() } else { format!("/{}", parts.join("/")) }
}

/// A pod on the host's network has the host's name.
fn hostname(config: &v1::PodSandboxConfig) -> String {
    match config.hostname.is_empty() {
        false => config.hostname.clone(),
        true => nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

fn write_files(directory: &Path, config: &v1::PodSandboxConfig) -> io::Result<()> {
    let resolv = match &config.dns_config {
        Some(dns) => resolv_conf(dns),
        // A machine without the file has no DNS to offer.
        None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    fs::write(directory.join("resolv.conf"), resolv)?;
    fs::write(directory.join("hostname"), format!("{}\n", hostname(config)))?;
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    fs::write(directory.join("hosts"), hosts)
}

fn resolv_conf(dns: &v1::DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    dns.servers.iter().for_each(|server| text += &format!("nameserver {server}\n"));
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

fn mount_shm(place: &Path) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let shm = crate::rootfs::filesystem("tmpfs", &[("mode", "1777"), ("size", SHM_SIZE)], attributes)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    crate::rootfs::attach(shm, rustix::fs::open(place, flags, rustix::fs::Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_becomes_resolv_conf() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let dns = v1::DnsConfig {
            servers: words("10.96.0.10"),
            searches: words("default.svc.cluster.local svc.cluster.local"),
            options: words("ndots:5"),
        };
        let expected = "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), expected);
        assert_eq!(resolv_conf(&v1::DnsConfig::default()), "");
    }

    #[test]
    fn cgroup_parents_stay_below_the_root() {
        let parent = |text: &str| {
            let linux = v1::LinuxPodSandboxConfig { cgroup_parent: text.to_owned(), ..Default::default() };
            cgroup_parent(&v1::PodSandboxConfig { linux: Some(linux), ..Default::default() })
        };
        assert_eq!(parent("/kubepods/burstable/pod1"), "/kubepods/burstable/pod1");
        assert_eq!(parent("a/../../b/"), "/a/b");
        assert_eq!(parent(""), "/kubelab");
    }
}
