//! The real runtime: sandboxes are namespaces, containers are processes under shims.
//!
//! What exists is on disk (see [`crate::disk`]) and in the kernel; the state here is a copy for quick answers, rebuilt
//! by [`Linux::open`]. Entry for each of CRI's verbs: `sandbox` and `container`. Invariant: the state's lock is never
//! held across an await; changes to one sandbox take turns.

mod container;
mod exec;
mod pause;
mod recovery;
mod sandbox;
mod stats;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cri::v1::{self, ContainerEventType};
use nix::fcntl::{Flock, FlockArg};
use process::{Clock, Rng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::addresses::{AddressPool, Cidr, CidrError};
use crate::cgroups::{CgroupError, Hierarchies};
use crate::control::ControlError;
use crate::events::Subscribers;
use crate::images::{ImageError, PullError, Store};
use crate::network::NetworkError;
use crate::record::{Container, Sandbox};
use crate::spec::{Process, SpecError};

pub use pause::pause;

/// File of the range of pod addresses, in the state directory.
const POD_CIDR: &str = "pod-cidr.json";

/// Where a runtime keeps what, and whom it may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Images; outlives everything.
    pub root: PathBuf,
    /// Sandboxes and containers.
    pub state: PathBuf,
    /// Where pod IPs come from; without it the last one that a kubelet set by UpdateRuntimeConfig.
    pub pod_cidr: Option<String>,
    /// The program whose hidden subcommands are the shims: normally `/proc/self/exe`.
    pub program: PathBuf,
}

/// What goes wrong in this runtime.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// A file or directory of the runtime.
    #[error("{0}")]
    File(PathBuf, #[source] io::Error),
    /// Another runtime uses the state directory.
    #[error("{0} is in use by another runtime")]
    InUse(PathBuf),
    /// The pod CIDR.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A pod's network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Limits.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A shim.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A request that makes no container.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A request that lacks something or contradicts itself.
    #[error("{0}")]
    Request(String),
    /// No such thing.
    #[error("{0}")]
    NotFound(String),
    /// Not in this state.
    #[error("{0}")]
    WrongState(String),
    /// The container's program could not be run.
    #[error("failed to start container: unable to start container process: {0}")]
    Start(String),
    /// No address is left, or none was ever there.
    #[error("{0}")]
    Address(String),
    /// It did not end even when killed.
    #[error("container {0} does not end")]
    DoesNotEnd(String),
    /// A command took too long.
    #[error("{0}")]
    Timeout(String),
    /// A task of ours ended unexpectedly.
    #[error("internal error")]
    Task(#[source] tokio::task::JoinError),
}

impl From<LinuxError> for Status {
    fn from(error: LinuxError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        match error {
            LinuxError::NotFound(_) => Self::not_found(text),
            LinuxError::Request(_) | LinuxError::Spec(_) | LinuxError::Cidr(_) => Self::invalid_argument(text),
            LinuxError::WrongState(_) => Self::failed_precondition(text),
            LinuxError::Address(_) => Self::resource_exhausted(text),
            LinuxError::DoesNotEnd(_) | LinuxError::Timeout(_) => Self::deadline_exceeded(text),
            LinuxError::Control(ControlError::Refused(_)) | LinuxError::Start(_) => Self::unknown(text),
            LinuxError::Task(_) => Self::internal(text),
            LinuxError::Image(ImageError::Pull(_, PullError::Unreachable { .. })) => Self::unavailable(text),
            LinuxError::Image(ImageError::Pull(_, PullError::NotFound)) => Self::not_found(text),
            LinuxError::Image(ImageError::Pull(_, PullError::Denied)) => Self::permission_denied(text),
            LinuxError::File(..)
            | LinuxError::InUse(_)
            | LinuxError::Image(_)
            | LinuxError::Network(_)
            | LinuxError::Cgroup(_)
            | LinuxError::Control(_) => Self::unknown(text),
        }
    }
}

type Result<T> = std::result::Result<T, LinuxError>;

fn at(path: &Path) -> impl FnOnce(io::Error) -> LinuxError {
    let path = path.to_owned();
    move |error| LinuxError::File(path, error)
}

/// A runtime.
pub struct Linux {
    config: Config,
    clock: Clock,
    rng: Rng,
    /// Images on this machine.
    pub images: Arc<Store>,
    /// Who hears of changes.
    pub subscribers: Subscribers,
    hierarchies: Hierarchies,
    mtu: u32,
    state: Mutex<State>,
    /// Counts endings, so that a call can wait for one.
    endings: watch::Sender<u64>,
    samples: Mutex<BTreeMap<String, stats::Sample>>,
    /// Whoever tells the host about ports holds this, so that the newest word is the last.
    ports_turn: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    token: CancellationToken,
    _lock: Flock<File>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, KnownSandbox>,
    containers: BTreeMap<String, KnownContainer>,
    addresses: Option<AddressPool>,
}

#[derive(Clone)]
struct KnownSandbox {
    sandbox: Sandbox,
    /// Whoever changes the sandbox or its containers holds this.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct KnownContainer {
    container: Container,
    layers: Vec<PathBuf>,
    cgroup: String,
    stop_signal: i32,
    /// For commands executed later.
    process: Process,
}

impl Linux {
    /// Takes a state directory over: finds what runs, removes what was left half made.
    pub async fn open(config: Config, clock: Clock, rng: Rng, token: CancellationToken) -> Result<Arc<Self>> {
        let config = Config { root: absolute(&config.root)?, state: absolute(&config.state)?, ..config };
        let lock = lock(&config.state)?;
        let cidr = match &config.pod_cidr {
            Some(given) => Some(given.parse()?),
            None => known_cidr(&config.state)?,
        };
        let images = Arc::new(Store::open(&config.root)?);
        images.add_builtin()?;
        let hierarchies = Hierarchies::detect().map_err(at(Path::new("/proc/self/mountinfo")))?;
        let state = State { addresses: cidr.map(AddressPool::new), ..State::default() };
        let linux = Arc::new(Self {
            config,
            clock,
            rng,
            images,
            subscribers: Subscribers::default(),
            hierarchies,
            mtu: crate::network::mtu(),
            state: Mutex::new(state),
            endings: watch::Sender::new(0),
            samples: Mutex::default(),
            ports_turn: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            token,
            _lock: lock,
        });
        linux.recover().await?;
        if let Some(cidr) = cidr {
            linux.tasks.spawn(crate::network::prepare_host(cidr));
        }
        let sweeping = linux.clone();
        linux.tasks.spawn(async move {
            if let Err(error) = apart(move || sweeping.collect_layers()).await {
                tracing::warn!(%error, "unused layers not removed");
            }
        });
        let publishing = linux.clone();
        linux.tasks.spawn(async move { publishing.publish_ports().await });
        Ok(linux)
    }

    /// Where pod addresses come from, from now on and after a restart.
    pub fn set_cidr(&self, cidr: Cidr) -> Result<()> {
        let path = self.config.state.join(POD_CIDR);
        let mut state = self.lock();
        if state.addresses.as_ref().is_some_and(|pool| pool.cidr() == cidr) {
            return Ok(());
        }
        crate::disk::write(&path, &cidr.to_string()).map_err(at(&path))?;
        let mut pool = AddressPool::new(cidr);
        state.sandboxes.values().filter_map(|s| s.sandbox.ip).for_each(|ip| pool.claim(ip));
        state.addresses = Some(pool);
        drop(state);
        self.tasks.spawn(crate::network::prepare_host(cidr));
        Ok(())
    }

    /// Whether pods can get addresses.
    pub fn has_network(&self) -> bool {
        self.lock().addresses.is_some()
    }

    /// The time, as CRI counts it.
    pub fn now(&self) -> i64 {
        i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// All sandboxes.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.lock().sandboxes.values().map(|s| s.sandbox.clone()).collect()
    }

    /// All containers.
    pub fn containers(&self) -> Vec<Container> {
        self.lock().containers.values().map(|c| c.container.clone()).collect()
    }

    /// A sandbox.
    pub fn sandbox(&self, id: &str) -> Result<Sandbox> {
        Ok(self.known_sandbox(id)?.sandbox)
    }

    /// A container.
    pub fn container(&self, id: &str) -> Result<Container> {
        Ok(self.known_container(id)?.container)
    }

    /// CRI's statuses of the containers of a sandbox.
    pub fn statuses_of(&self, sandbox_id: &str) -> Vec<v1::ContainerStatus> {
        let state = self.lock();
        let of_sandbox = state.containers.values().filter(|c| c.container.sandbox_id == sandbox_id);
        of_sandbox.map(|c| c.container.status()).collect()
    }

    /// A number nobody else has.
    pub fn new_id(&self) -> String {
        self.rng.bytes(32).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// File that keeps a sandbox's network namespace.
    pub fn network_namespace(&self, sandbox_id: &str) -> PathBuf {
        self.sandbox_directory(sandbox_id).join(crate::network::NETWORK)
    }

    /// Undoes what the runtime set up on the host for its pods as a whole.
    pub async fn restore_host(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        let cidr = self.lock().addresses.as_ref().map(|pool| pool.cidr());
        if let Some(cidr) = cidr {
            crate::network::restore_host(cidr).await;
        }
    }

    /// Ends with the runtime; what runs under shims does not.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    fn known_sandbox(&self, id: &str) -> Result<KnownSandbox> {
        let found = self.lock().sandboxes.get(id).cloned();
        found.ok_or_else(|| LinuxError::NotFound(format!("sandbox {id:?} not found")))
    }

    fn known_container(&self, id: &str) -> Result<KnownContainer> {
        let found = self.lock().containers.get(id).cloned();
        found.ok_or_else(|| LinuxError::NotFound(format!("container {id:?} not found")))
    }

    fn sandbox_directory(&self, id: &str) -> PathBuf {
        self.config.state.join("sandboxes").join(id)
    }

    /// Where a container and its shim keep their files.
    pub fn container_directory(&self, id: &str) -> PathBuf {
        self.config.state.join("containers").join(id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, container_id: &str, sandbox: &Sandbox, kind: ContainerEventType) {
        self.subscribers.publish(&v1::ContainerEventResponse {
            container_id: container_id.to_owned(),
            container_event_type: kind.into(),
            created_at: self.now(),
            pod_sandbox_status: Some(sandbox.status()),
            containers_statuses: self.statuses_of(&sandbox.id),
        });
    }

    fn publish_container(&self, container: &Container, kind: ContainerEventType) {
        if let Ok(sandbox) = self.sandbox(&container.sandbox_id) {
            self.publish(&container.id, &sandbox, kind);
        }
    }
}

/// Runs blocking work apart from the server's own threads.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(LinuxError::Task)?
}

/// The range that an earlier runtime of this state directory gave addresses from.
fn known_cidr(state: &Path) -> Result<Option<Cidr>> {
    let path = state.join(POD_CIDR);
    match crate::disk::read::<String>(&path) {
        Ok(text) => Ok(Some(text.parse()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(&path)(error)),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).map_err(at(path))?;
    std::fs::canonicalize(path).map_err(at(path))
}

/// One runtime for a state directory.
fn lock(state: &Path) -> Result<Flock<File>> {
    for directory in ["sandboxes", "containers"] {
        let directory = state.join(directory);
        std::fs::create_dir_all(&directory).map_err(at(&directory))?;
    }
    let path = state.join("lock");
    let file = File::create(&path).map_err(at(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| LinuxError::InUse(state.to_owned()))
}
