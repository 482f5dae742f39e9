//! The container runtime, as the kubelet sees it through CRI.
//!
//! Entry: [`Runtime`]; [`Runtime::observe`] gives one pod's [`PodView`]. Invariant: nothing else in this crate reads
//! CRI's answers about sandboxes and containers, so this is the one place that translates them.

use std::collections::BTreeMap;
use std::path::Path;

use cri::transport::Transport;
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::*;
use jiff::Timestamp;

use crate::view::{ContainerView, Exit, PodView, RunState, SandboxView};

/// Labels and annotations that let a kubelet find its pods again; their names are Kubernetes'.
pub mod keys {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
}

const MESSAGE_LIMIT: u64 = 4096;
const LOG_MESSAGE_LIMIT: usize = 2048;
const LOG_MESSAGE_LINES: usize = 80;
/// The largest answer: a list of thousands of containers.
const ANSWER_LIMIT: usize = 64 << 20;

/// The two CRI services; clones share the connection.
#[derive(Clone)]
pub struct Runtime {
    pub runtime: RuntimeServiceClient<Transport>,
    pub images: ImageServiceClient<Transport>,
}

/// A pod of which the runtime has something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownPod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

type Answer<T> = Result<T, tonic::Status>;

impl Runtime {
    /// A runtime wherever it is.
    pub fn new(transport: Transport) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(transport.clone()).max_decoding_message_size(ANSWER_LIMIT),
            images: ImageServiceClient::new(transport).max_decoding_message_size(ANSWER_LIMIT),
        }
    }

    /// Every pod of which the runtime has a sandbox.
    pub async fn known_pods(&self) -> Answer<Vec<KnownPod>> {
        let answer = self.runtime.clone().list_pod_sandbox(ListPodSandboxRequest { filter: None }).await?.into_inner();
        let known = |sandbox: PodSandbox| {
            let meta = sandbox.metadata?;
            Some(KnownPod { uid: meta.uid, namespace: meta.namespace, name: meta.name })
        };
        let mut pods: Vec<_> = answer.items.into_iter().filter_map(known).collect();
        pods.sort();
        pods.dedup();
        Ok(pods)
    }

    /// Tells the runtime from which range its sandboxes get their addresses.
    pub async fn set_pod_cidr(&self, pod_cidr: &str) -> Answer<()> {
        let runtime_config = RuntimeConfig { network_config: Some(NetworkConfig { pod_cidr: pod_cidr.to_owned() }) };
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(runtime_config) };
        self.runtime.clone().update_runtime_config(request).await.map(drop)
    }

    /// Everything the runtime has of one pod.
    pub async fn observe(&self, uid: &str) -> Answer<PodView> {
        let labels: BTreeMap<_, _> = [(keys::POD_UID.to_owned(), uid.to_owned())].into();
        let filter = PodSandboxFilter { label_selector: labels.clone(), ..PodSandboxFilter::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let sandboxes = self.runtime.clone().list_pod_sandbox(request).await?.into_inner().items;
        let mut view = PodView::default();
        let mut complete = true;
        for sandbox in sandboxes {
            let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: false };
            match self.runtime.clone().pod_sandbox_status(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    // As CRI has it: a runtime that sends events tells of the containers, too, and says when.
                    complete &= answer.timestamp != 0;
                    let id = answer.status.as_ref().map(|status| status.id.clone()).unwrap_or_default();
                    let containers = answer.containers_statuses.into_iter();
                    view.containers.extend(containers.map(|status| container_view(status, id.clone())));
                    view.sandboxes.extend(answer.status.map(sandbox_view));
                }
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        if complete && !view.sandboxes.is_empty() {
            view.sort();
            return Ok(view);
        }
        view.containers.clear();
        let filter = ContainerFilter { label_selector: labels, ..ContainerFilter::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        for container in self.runtime.clone().list_containers(request).await?.into_inner().containers {
            let request = ContainerStatusRequest { container_id: container.id, verbose: false };
            match self.runtime.clone().container_status(request).await {
                Ok(answer) => {
                    let status = answer.into_inner().status;
                    view.containers.extend(status.map(|status| container_view(status, container.pod_sandbox_id)));
                }
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        view.sort();
        Ok(view)
    }

    /// Stops one container: the stop signal, then SIGKILL after the grace period.
    pub async fn stop_container(&self, id: &str, grace_seconds: i64) -> Answer<()> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: grace_seconds };
        absent_is_fine(self.runtime.clone().stop_container(request).await)
    }

    /// Removes one dead container.
    pub async fn remove_container(&self, id: &str) -> Answer<()> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        absent_is_fine(self.runtime.clone().remove_container(request).await)
    }

    /// Stops a sandbox and whatever still runs in it.
    pub async fn stop_sandbox(&self, id: &str) -> Answer<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_fine(self.runtime.clone().stop_pod_sandbox(request).await)
    }

    /// Removes a sandbox with its containers.
    pub async fn remove_sandbox(&self, id: &str) -> Answer<()> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_fine(self.runtime.clone().remove_pod_sandbox(request).await)
    }

    /// Runs a command in a container and waits for its end: exit code and output.
    pub async fn exec(&self, id: &str, command: &[String], timeout_seconds: i64) -> Answer<(i32, Vec<u8>)> {
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout: timeout_seconds };
        let answer = self.runtime.clone().exec_sync(request).await?.into_inner();
        let mut output = answer.stdout;
        output.extend_from_slice(&answer.stderr);
        Ok((answer.exit_code, output))
    }

    /// What the runtime has under an image name.
    pub async fn image(&self, name: &str) -> Answer<Option<Image>> {
        let spec = ImageSpec { image: name.to_owned(), ..ImageSpec::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        Ok(self.images.clone().image_status(request).await?.into_inner().image)
    }
}

/// The pod that an event is about, and how its sandbox is; `None` if the event does not say.
pub fn uid_and_view(event: ContainerEventResponse) -> Option<(String, PodView)> {
    let status = event.pod_sandbox_status?;
    let uid = status.metadata.as_ref()?.uid.clone();
    let id = status.id.clone();
    let containers = event.containers_statuses.into_iter().map(|status| container_view(status, id.clone())).collect();
    Some((uid, PodView { sandboxes: vec![sandbox_view(status)], containers }))
}

fn absent_is_fine<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Answer<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

fn sandbox_view(status: PodSandboxStatus) -> SandboxView {
    let options = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
    let network = status.network.unwrap_or_default();
    let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|more| more.ip));
    SandboxView {
        id: status.id,
        attempt: status.metadata.map_or(0, |meta| meta.attempt),
        ready: status.state == PodSandboxState::SandboxReady as i32,
        created_at: time(status.created_at),
        ips: ips.filter(|ip| !ip.is_empty()).collect(),
        host_network: options.is_some_and(|options| options.network == NamespaceMode::Node as i32),
    }
}

fn container_view(status: ContainerStatus, sandbox_id: String) -> ContainerView {
    let annotation = |key: &str| status.annotations.get(key).cloned();
    let meta = status.metadata.clone().unwrap_or_default();
    let restart_count = annotation(keys::RESTART_COUNT).and_then(|text| text.parse().ok()).unwrap_or(meta.attempt);
    let image = status.image.as_ref().map(|spec| match spec.user_specified_image.as_str() {
        "" => spec.image.clone(),
        given => given.to_owned(),
    });
    ContainerView {
        id: status.id.clone(),
        sandbox_id,
        name: meta.name,
        restart_count,
        hash: annotation(keys::CONTAINER_HASH).unwrap_or_default(),
        image: image.unwrap_or_default(),
        image_id: if status.image_ref.is_empty() { status.image_id.clone() } else { status.image_ref.clone() },
        created_at: time(status.created_at),
        state: run_state(&status),
        log_path: status.log_path,
    }
}

fn run_state(status: &ContainerStatus) -> RunState {
    match status.state() {
        ContainerState::ContainerCreated => RunState::Created,
        ContainerState::ContainerRunning => RunState::Running { started_at: time(status.started_at) },
        ContainerState::ContainerExited => RunState::Exited(Exit {
            started_at: time(status.started_at),
            finished_at: time(status.finished_at),
            code: status.exit_code,
            reason: status.reason.clone(),
            message: termination_message(status),
        }),
        ContainerState::ContainerUnknown => RunState::Unknown,
    }
}

/// What a container left behind as its last words: its termination-message file, or the end of its log if it failed
/// without one and its policy says so; after that what the runtime says.
fn termination_message(status: &ContainerStatus) -> String {
    let annotations = &status.annotations;
    let path = annotations.get(keys::MESSAGE_PATH);
    let mount = path.and_then(|path| status.mounts.iter().find(|mount| mount.container_path == *path));
    let left = mount.map(|mount| read_start(Path::new(&mount.host_path))).unwrap_or_default();
    if !left.is_empty() {
        return left;
    }
    let fallback = annotations.get(keys::MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    if fallback && (status.exit_code != 0 || status.reason == "OOMKilled") {
        let tail = log_tail(Path::new(&status.log_path));
        if !tail.is_empty() {
            return tail;
        }
    }
    status.message.clone()
}

fn read_start(path: &Path) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // An unreadable message is no message.
        let _ = file.take(MESSAGE_LIMIT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn log_tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |meta| meta.len());
    let mut bytes = Vec::new();
    // Lines of a log carry some 50 bytes of prefix each.
    let start = length.saturating_sub(4 * LOG_MESSAGE_LIMIT as u64);
    if file.seek(SeekFrom::Start(start)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let contents: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let tail = contents[contents.len().saturating_sub(LOG_MESSAGE_LINES)..].join("\n");
    let mut cut = tail.len().saturating_sub(LOG_MESSAGE_LIMIT);
    while !tail.is_char_boundary(cut) {
        cut += 1;
    }
    tail[cut..].to_owned()
}
