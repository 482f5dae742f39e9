//! Containers: created on paper, started by a shim, stopped by signals, removed with all they left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use cri::v1::{self, ContainerEventType, NamespaceMode};
use tokio::io::AsyncReadExt as _;

use super::sandbox::cgroup_parent;
use super::{KnownContainer, Linux, LinuxError, Result, apart, at, pause, recovery};
use crate::control;
use crate::disk::{self, ContainerRecord};
use crate::images::Image;
use crate::network::{IPC, NETWORK, UTS};
use crate::record::{self, Container, Exit, Phase};
use crate::shim::protocol::{EXIT_FILE, LOG_FILE, Outcome, ROOTFS, SPEC_FILE, Started, UPPER, WORK};
use crate::spec::{Namespaces, PidNamespace, Places, Spec};

/// How long a start may take; slow disks and network mounts included.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Before a shim that lives but does not talk is asked again.
const RECONNECT: Duration = Duration::from_millis(100);
/// How long a killed container may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

impl Linux {
    /// Creates a container and answers its id. Nothing runs yet.
    pub async fn create_container(self: &Arc<Self>, request: v1::CreateContainerRequest) -> Result<String> {
        let config = request.config.ok_or_else(|| LinuxError::Request("config is required".to_owned()))?;
        let turn = self.known_sandbox(&request.pod_sandbox_id)?.turn;
        let _turn = turn.lock().await;
        // It may have been removed while others had their turn.
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        let wanted = config.image.as_ref().map_or("", |i| i.image.as_str());
        let image = self.images.find(wanted);
        let image = image.ok_or_else(|| LinuxError::NotFound(format!("image {wanted:?} not found")))?;
        let linux = self.clone();
        let created = apart(move || linux.lay_out(sandbox, config, &image)).await?;
        let container = created.container.clone();
        self.lock().containers.insert(container.id.clone(), created);
        self.publish_container(&container, ContainerEventType::ContainerCreatedEvent);
        Ok(container.id)
    }

    fn lay_out(&self, sandbox: record::Sandbox, config: v1::ContainerConfig, image: &Image) -> Result<KnownContainer> {
        let id = self.new_id();
        let cgroup = format!("{}/{id}", cgroup_parent(&sandbox.config));
        let layers = self.images.layers(image);
        let places = self.places(&id, &sandbox, &config, layers.clone(), cgroup.clone())?;
        let spec = Spec::build(&config, &sandbox.config, &image.process, places)?;
        let stop_signal = crate::signals::stop_signal(config.stop_signal(), &image.process.stop_signal);
        let container = Container {
            log_path: record::log_path(&sandbox.config, &config),
            image_id: image.id.clone(),
            image_ref: image.digests.first().cloned().unwrap_or_else(|| image.id.clone()),
            sandbox_id: sandbox.id,
            config,
            created_at: self.now(),
            phase: Phase::Created,
            user: None,
            id,
        };
        let directory = self.container_directory(&container.id);
        for part in [ROOTFS, UPPER, WORK] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        disk::write(&directory.join(SPEC_FILE), &spec).map_err(at(&directory))?;
        let record = ContainerRecord::new(&container, layers.clone(), cgroup.clone(), stop_signal);
        record.write(&directory).map_err(at(&directory))?;
        Ok(KnownContainer { container, layers, cgroup, stop_signal, process: spec.process })
    }

    fn places(
        &self,
        id: &str,
        sandbox: &record::Sandbox,
        config: &v1::ContainerConfig,
        layers: Vec<PathBuf>,
        cgroup: String,
    ) -> Result<Places> {
        let directory = self.sandbox_directory(&sandbox.id);
        let options = sandbox.namespaces();
        let own = |mode: NamespaceMode, name: &str| (mode != NamespaceMode::Node).then(|| directory.join(name));
        let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let asked = security.and_then(|s| s.namespace_options.clone()).unwrap_or_default();
        let pid = match asked.pid() {
            NamespaceMode::Node => PidNamespace::Host,
            NamespaceMode::Container => PidNamespace::Own,
            NamespaceMode::Pod if directory.join(pause::PID).exists() => PidNamespace::Of(directory.join(pause::PID)),
            NamespaceMode::Pod => PidNamespace::Own,
            NamespaceMode::Target => PidNamespace::Of(self.pid_namespace_of(&asked.target_id)?),
        };
        let namespaces = Namespaces {
            network: own(options.network(), NETWORK),
            ipc: own(options.ipc(), IPC),
            uts: Some(directory.join(UTS)),
            pid,
        };
        let shm = if namespaces.ipc.is_some() { directory.join("shm") } else { "/dev/shm".into() };
        let file = |name: &str, target| (directory.join(name), target);
        let files = vec![
            file("resolv.conf", "/etc/resolv.conf"),
            file("hostname", "/etc/hostname"),
            file("hosts", "/etc/hosts"),
        ];
        Ok(Places { id: id.to_owned(), layers, namespaces, shm, files, cgroup })
    }

    fn pid_namespace_of(&self, target: &str) -> Result<PathBuf> {
        let known = self.known_container(target)?;
        if !known.container.is_running() {
            return Err(LinuxError::WrongState(format!("target container {target:?} is not running")));
        }
        let started: Started = disk::read(&self.container_directory(target).join(crate::shim::protocol::STARTED_FILE))
            .map_err(at(&self.container_directory(target)))?;
        Ok(format!("/proc/{}/ns/pid", started.pid).into())
    }

    /// Starts a created container; answers when its program runs.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let known = self.known_container(id)?;
        let sandbox = self.known_sandbox(&known.container.sandbox_id)?;
        let _turn = sandbox.turn.lock().await;
        let known = self.known_container(id)?;
        if known.container.phase != Phase::Created {
            return Err(LinuxError::WrongState(format!("container {id:?} is not in created state")));
        }
        if !self.sandbox(&sandbox.sandbox.id)?.ready {
            return Err(LinuxError::WrongState(format!("sandbox {:?} is not ready", sandbox.sandbox.id)));
        }
        let name = format!("kubelab-shim: {}/{}", sandbox.sandbox.pod(), known.container.name());
        match self.run_shim(id, &name).await {
            Ok(Outcome::Started(started)) => {
                self.note_started(id, &started);
                let container = self.container(id)?;
                self.publish_container(&container, ContainerEventType::ContainerStartedEvent);
                self.watch_over(id).await;
                Ok(())
            }
            Ok(Outcome::Failed(complaint)) => self.note_failed_start(id, complaint),
            Err(error) => self.note_failed_start(id, error.to_string()),
        }
    }

    async fn run_shim(&self, id: &str, name: &str) -> io::Result<Outcome> {
        let directory = self.container_directory(id);
        let errors = File::options().create(true).append(true).open(directory.join(LOG_FILE))?;
        let mut child = tokio::process::Command::new(&self.config.program)
            .arg0(name)
            .arg("shim")
            .arg(&directory)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let mut said = Vec::new();
        let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let read = tokio::time::timeout(START_TIMEOUT, stdout.read_to_end(&mut said)).await;
        match read {
            Ok(read) => read?,
            Err(_) => {
                child.start_kill()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        match serde_json::from_slice(&said) {
            Ok(outcome) => Ok(outcome),
            Err(_) => {
                let complaint = fs::read_to_string(directory.join(LOG_FILE)).unwrap_or_default();
                Ok(Outcome::Failed(format!("the shim ended: {}", complaint.trim())))
            }
        }
    }

    fn note_failed_start(&self, id: &str, complaint: String) -> Result<()> {
        let message = LinuxError::Start(complaint.clone()).to_string();
        let exit = Exit::of_failed_start(self.now(), message);
        let directory = self.container_directory(id);
        disk::write(&directory.join(EXIT_FILE), &exit).map_err(at(&directory))?;
        let container = self.lock().containers.get_mut(id).map(|known| {
            known.container.phase = Phase::Exited { started_at: 0, exit };
            known.container.clone()
        });
        if let Some(container) = container {
            self.publish_container(&container, ContainerEventType::ContainerStoppedEvent);
        }
        Err(LinuxError::Start(complaint))
    }

    pub(super) fn note_started(&self, id: &str, started: &Started) {
        if let Some(known) = self.lock().containers.get_mut(id) {
            known.container.phase = Phase::Running { started_at: started.started_at };
            known.container.user = Some(user_of(started));
        }
    }

    /// Follows a running container until its shim is gone.
    pub(super) async fn watch_over(self: &Arc<Self>, id: &str) {
        let directory = self.container_directory(id);
        let first = control::watch(&directory).await;
        let (linux, id) = (self.clone(), id.to_owned());
        self.tasks.spawn(async move {
            let ended = linux.token.run_until_cancelled(shim_gone(&directory, first)).await;
            if ended.is_some() {
                linux.note_ended(&id);
            }
        });
    }

    /// The shim is gone: what did it leave?
    pub(super) fn note_ended(&self, id: &str) {
        let exit = disk::read::<Exit>(&self.container_directory(id).join(EXIT_FILE)).unwrap_or_else(|_| Exit {
            finished_at: self.now(),
            code: 255,
            reason: "Error".to_owned(),
            message: "the container's shim ended without saying how the container did".to_owned(),
        });
        let ended = {
            let mut state = self.lock();
            let Some(known) = state.containers.get_mut(id) else { return };
            let Phase::Running { started_at } = known.container.phase else { return };
            known.container.phase = Phase::Exited { started_at, exit };
            known.clone()
        };
        self.hierarchies.kill(&ended.cgroup);
        self.publish_container(&ended.container, ContainerEventType::ContainerStoppedEvent);
        self.endings.send_modify(|count| *count += 1);
    }

    /// Waits until a container runs no more.
    pub(super) async fn ended(&self, id: &str) {
        let mut endings = self.endings.subscribe();
        while self.container(id).is_ok_and(|c| c.is_running()) {
            if endings.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks a container to end, and kills it when it does not in time. Idempotent.
    pub async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) -> Result<()> {
        let Ok(known) = self.known_container(id) else { return Ok(()) };
        if !known.container.is_running() {
            return Ok(());
        }
        if !grace.is_zero() {
            match control::signal(&self.container_directory(id), known.stop_signal).await {
                Ok(()) if tokio::time::timeout(grace, self.ended(id)).await.is_ok() => return Ok(()),
                Ok(()) => {}
                // Without its shim it is as good as gone; the kill below makes sure.
                Err(error) => tracing::warn!(container = id, %error, "stop signal not delivered"),
            }
        }
        self.kill(id).await
    }

    /// Kills a container and waits for its end.
    pub(super) async fn kill(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(known) = self.known_container(id) else { return Ok(()) };
        if control::signal(&self.container_directory(id), libc::SIGKILL).await.is_err() {
            self.hierarchies.kill(&known.cgroup);
        }
        let ended = tokio::time::timeout(KILL_TIMEOUT, self.ended(id)).await;
        ended.map_err(|_| LinuxError::DoesNotEnd(id.to_owned()))
    }

    /// Removes a container, killing it if it runs. Idempotent.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(known) = self.known_container(id) else { return Ok(()) };
        let turn = self.known_sandbox(&known.container.sandbox_id).map(|s| s.turn).unwrap_or_default();
        let _turn = turn.lock().await;
        if self.container(id).is_ok_and(|c| c.is_running()) {
            self.kill(id).await?;
        }
        let (linux, owned, cgroup) = (self.clone(), id.to_owned(), known.cgroup.clone());
        apart(move || linux.clear_container(&owned, &cgroup)).await?;
        let removed = self.lock().containers.remove(id);
        self.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
        if let Some(removed) = removed {
            self.publish_container(&removed.container, ContainerEventType::ContainerDeletedEvent);
        }
        if self.images.find(&known.container.image_id).is_none() {
            let linux = self.clone();
            apart(move || linux.collect_layers()).await?;
        }
        Ok(())
    }

    /// Everything of a container, its directory last.
    pub(super) fn clear_container(&self, id: &str, cgroup: &str) -> Result<()> {
        self.hierarchies.remove(cgroup)?;
        remove_tree(&self.container_directory(id))
    }

    /// Deletes layers that neither an image nor a container uses.
    pub fn collect_layers(&self) -> Result<()> {
        let kept: BTreeSet<PathBuf> = self.lock().containers.values().flat_map(|c| c.layers.clone()).collect();
        Ok(self.images.collect(&kept)?)
    }

    /// Sets new limits on a container.
    pub async fn update_resources(self: &Arc<Self>, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        let known = self.known_container(id)?;
        let limits = crate::cgroups::Limits::from(&resources);
        if known.container.is_running() {
            self.hierarchies.apply(&known.cgroup, &limits)?;
        }
        let directory = self.container_directory(id);
        let mut spec: Spec = disk::read(&directory.join(SPEC_FILE)).map_err(at(&directory))?;
        spec.limits = limits;
        disk::write(&directory.join(SPEC_FILE), &spec).map_err(at(&directory))?;
        let updated = self.lock().containers.get_mut(id).map(|known| {
            known.container.config.linux.get_or_insert_default().resources = Some(resources);
            known.clone()
        });
        let Some(known) = updated else { return Ok(()) };
        let record = ContainerRecord::new(&known.container, known.layers, known.cgroup, known.stop_signal);
        record.write(&directory).map_err(at(&directory))
    }
}

/// Waits for the end of a shim. A connection that ends says so only when the shim has let go of its lock, too: the
/// connection may have failed for other reasons, and then it is made again.
async fn shim_gone(directory: &Path, first: io::Result<tokio::net::UnixStream>) {
    let mut connection = first;
    loop {
        if let Ok(connection) = connection {
            control::gone(connection).await;
        }
        if directory.join(EXIT_FILE).exists() || recovery::shim(directory).is_none() {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
        connection = control::watch(directory).await;
    }
}

/// Who a container's first process runs as.
pub(super) fn user_of(started: &Started) -> v1::LinuxContainerUser {
    v1::LinuxContainerUser {
        uid: started.uid.into(),
        gid: started.gid.into(),
        supplemental_groups: started.groups.iter().map(|g| i64::from(*g)).collect(),
    }
}

fn remove_tree(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(directory)(error)),
        _ => Ok(()),
    }
}
