//! CRI's calls on a simulated node.
//!
//! Invariant: the state's lock is never held across an await; what a call changes is published before it answers.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cri::v1::runtime_service_server::RuntimeService;
use cri::v1::{self, ContainerEventType};
use futures::StreamExt as _;
use process::{Clock, Rng};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::Config;
use super::images::image_of;
use super::script::{self, Script, ScriptError};
use super::state::{Scripted, State};
use super::timetable::Ending;
use crate::addresses::Cidr;
use crate::events::Subscribers;
use crate::record::{self, Container, Exit, Phase, Sandbox};

/// What a simulated container is said to use.
pub(super) const MEMORY: u64 = 1 << 20;

/// One simulated node.
pub struct Service {
    config: Config,
    clock: Clock,
    rng: Rng,
    state: Mutex<State>,
    subscribers: Subscribers,
    /// Wakes the timetable when it got an entry.
    entered: Notify,
    /// Counts endings, so that a call can wait for one.
    endings: watch::Sender<u64>,
    timetable_is_kept: Mutex<bool>,
}

impl Service {
    /// A node without pods.
    pub fn new(config: Config, cidr: Option<Cidr>, clock: Clock, rng: Rng) -> Self {
        Self {
            config,
            clock,
            rng,
            state: Mutex::new(State::new(cidr)),
            subscribers: Subscribers::default(),
            entered: Notify::new(),
            endings: watch::Sender::new(0),
            timetable_is_kept: Mutex::new(false),
        }
    }

    /// Starts the one task that lets things happen in time.
    pub fn keep_timetable(self: Arc<Self>, token: CancellationToken) {
        let mut kept = self.timetable_is_kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *kept, true) {
            drop(kept);
            tokio::spawn(async move { token.run_until_cancelled(self.follow_timetable()).await });
        }
    }

    async fn follow_timetable(&self) {
        loop {
            let due = self.lock().timetable.take_due(Instant::now());
            if let Some(ending) = due {
                self.end(&ending.container_id, ending.code, ending.out_of_memory);
                continue;
            }
            let next = self.lock().timetable.next();
            let time_has_come = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.entered.notified() => {}
                () = time_has_come => {}
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> i64 {
        nanoseconds(&self.clock)
    }

    fn new_id(&self) -> String {
        self.rng.bytes(32).iter().map(|b| format!("{b:02x}")).collect()
    }

    fn publish(&self, state: &State, container_id: &str, sandbox_id: &str, kind: ContainerEventType) {
        self.subscribers.publish(&v1::ContainerEventResponse {
            container_id: container_id.to_owned(),
            container_event_type: kind.into(),
            created_at: self.now(),
            pod_sandbox_status: state.sandboxes.get(sandbox_id).map(Sandbox::status),
            containers_statuses: state.statuses_of(sandbox_id),
        });
    }

    fn plan_end(&self, container_id: &str, after: Duration, code: i32, out_of_memory: bool) {
        let ending = Ending { container_id: container_id.to_owned(), code, out_of_memory };
        self.lock().timetable.enter(Instant::now() + after, ending);
        self.entered.notify_one();
    }

    fn end(&self, container_id: &str, code: i32, out_of_memory: bool) {
        let mut state = self.lock();
        if !state.end(container_id, Exit::of_process(self.now(), code, out_of_memory)) {
            return;
        }
        let Some(scripted) = state.containers.get(container_id) else { return };
        let container = scripted.container.clone();
        self.publish(&state, container_id, &container.sandbox_id, ContainerEventType::ContainerStoppedEvent);
        drop(state);
        self.log(&container, &format!("simulated container {} ended with code {code}", container.name()));
        self.endings.send_modify(|count| *count += 1);
    }

    /// Waits until the container runs no more.
    async fn ended(&self, container_id: &str) {
        let mut endings = self.endings.subscribe();
        let runs = || self.lock().containers.get(container_id).is_some_and(|c| c.container.is_running());
        while runs() {
            if endings.changed().await.is_err() {
                return;
            }
        }
    }

    fn log(&self, container: &Container, line: &str) {
        if !self.config.write_logs || container.log_path.is_empty() {
            return;
        }
        let path = Path::new(&container.log_path);
        let append = || -> std::io::Result<()> {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{:.9} stdout F {line}", self.clock.now())
        };
        if let Err(error) = append() {
            tracing::warn!(path = container.log_path, %error, "log line not written");
        }
    }

    fn remove_container_now(&self, id: &str) {
        let mut state = self.lock();
        state.timetable.forget(id);
        if let Some(scripted) = state.containers.remove(id) {
            self.publish(&state, id, &scripted.container.sandbox_id, ContainerEventType::ContainerDeletedEvent);
        }
    }

    fn stop_all(&self, sandbox_id: &str) {
        let containers = self.lock().containers_of(sandbox_id);
        for id in containers {
            self.end(&id, 137, false);
        }
    }

    fn stats(&self, container: &Container) -> v1::ContainerStats {
        let timestamp = self.now();
        let Phase::Running { started_at } = container.phase else {
            return v1::ContainerStats { attributes: Some(container.attributes()), ..Default::default() };
        };
        let used = u64::try_from(timestamp - started_at).unwrap_or(0) / 1000;
        let value = |value| Some(v1::UInt64Value { value });
        v1::ContainerStats {
            attributes: Some(container.attributes()),
            cpu: Some(v1::CpuUsage {
                timestamp,
                usage_core_nano_seconds: value(used),
                usage_nano_cores: value(1_000_000),
            }),
            memory: Some(v1::MemoryUsage {
                timestamp,
                working_set_bytes: value(MEMORY),
                usage_bytes: value(MEMORY),
                rss_bytes: value(MEMORY),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn is_ready(&self, scripted: &Scripted) -> bool {
        let Phase::Running { started_at } = scripted.container.phase else { return false };
        self.now() - started_at >= i64::try_from(scripted.script.ready_delay.as_nanos()).unwrap_or(i64::MAX)
    }

    fn nothing_to_stream(&self, container_id: &str, what: &str) -> Status {
        Status::failed_precondition(format!(
            "container {container_id} on node {} is simulated: it runs no process, so there is nothing to {what}",
            self.config.node_name
        ))
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        Ok(Response::new(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "kubelab-simulated".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("config is required"))?;
        tokio::time::sleep(script::sandbox(&config.annotations).map_err(refused)?).await;
        let id = self.new_id();
        let mut state = self.lock();
        state.add_sandbox(Sandbox {
            id: id.clone(),
            config,
            runtime_handler: request.runtime_handler,
            created_at: self.now(),
            ready: true,
            ip: None,
        })?;
        self.publish(&state, &id, &id, ContainerEventType::ContainerCreatedEvent);
        self.publish(&state, &id, &id, ContainerEventType::ContainerStartedEvent);
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.stop_all(&id);
        let mut state = self.lock();
        if state.sandboxes.get(&id).is_some_and(|s| s.ready) {
            state.stop_sandbox(&id);
            self.publish(&state, &id, &id, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.stop_all(&id);
        let containers = self.lock().containers_of(&id);
        containers.iter().for_each(|container| self.remove_container_now(container));
        let mut state = self.lock();
        state.stop_sandbox(&id);
        if let Some(sandbox) = state.sandboxes.remove(&id) {
            self.subscribers.publish(&v1::ContainerEventResponse {
                container_id: id,
                container_event_type: ContainerEventType::ContainerDeletedEvent.into(),
                created_at: self.now(),
                pod_sandbox_status: Some(sandbox.status()),
                containers_statuses: Vec::new(),
            });
        }
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        let state = self.lock();
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(state.sandbox(&id)?.status()),
            info: Default::default(),
            containers_statuses: state.statuses_of(&id),
            timestamp: self.now(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        let filter = request.into_inner().filter;
        let state = self.lock();
        let selected = state.sandboxes.values().filter(|s| s.matches(filter.as_ref()));
        Ok(Response::new(v1::ListPodSandboxResponse { items: selected.map(Sandbox::listed).collect() }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("config is required"))?;
        let id = self.new_id();
        let mut state = self.lock();
        let sandbox = state.sandbox(&request.pod_sandbox_id)?;
        let name = config.metadata.as_ref().map_or("", |m| &m.name);
        let script = Script::of_container(name, &config.annotations, &sandbox.config.annotations).map_err(refused)?;
        let image = image_of(config.image.as_ref())?;
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox.id.clone(),
            log_path: record::log_path(&sandbox.config, &config),
            image_id: image.id.clone(),
            image_ref: image.repo_digests.first().cloned().unwrap_or_default(),
            config,
            created_at: self.now(),
            phase: Phase::Created,
            user: None,
        };
        state.containers.insert(id.clone(), Scripted { container, script });
        self.publish(&state, &id, &request.pod_sandbox_id, ContainerEventType::ContainerCreatedEvent);
        Ok(Response::new(v1::CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        let script = self.lock().container(&id)?.script.clone();
        tokio::time::sleep(script.start_delay).await;
        let container = {
            let mut state = self.lock();
            let started_at = self.now();
            let scripted = state.containers.get_mut(&id);
            let scripted = scripted.ok_or_else(|| Status::not_found(format!("container {id:?} not found")))?;
            if scripted.container.phase != Phase::Created {
                return Err(Status::failed_precondition(format!("container {id:?} is not in created state")));
            }
            let sandbox_id = scripted.container.sandbox_id.clone();
            if let Some(message) = script.start_error {
                let exit = Exit::of_failed_start(started_at, message.clone());
                scripted.container.phase = Phase::Exited { started_at: 0, exit };
                self.publish(&state, &id, &sandbox_id, ContainerEventType::ContainerStoppedEvent);
                return Err(Status::unknown(message));
            }
            scripted.container.phase = Phase::Running { started_at };
            let container = scripted.container.clone();
            self.publish(&state, &id, &sandbox_id, ContainerEventType::ContainerStartedEvent);
            container
        };
        self.log(&container, &format!("simulated container {} started", container.name()));
        if let Some(after) = script.exit_after {
            self.plan_end(&id, after, script.exit_code, false);
        }
        if let Some(after) = script.oom_after {
            self.plan_end(&id, after, 137, true);
        }
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let found = self.lock().containers.get(&request.container_id).cloned();
        if let Some(scripted) = found.filter(|c| c.container.is_running()) {
            let grace = Duration::from_secs(request.timeout.try_into().unwrap_or(0));
            let delay = scripted.script.stop_delay;
            let code = if delay <= grace { 0 } else { 137 };
            self.plan_end(&request.container_id, delay.min(grace), code, false);
            self.ended(&request.container_id).await;
        }
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        self.end(&id, 137, false);
        self.remove_container_now(&id);
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let filter = request.into_inner().filter;
        let state = self.lock();
        let selected = state.containers.values().filter(|c| c.container.matches(filter.as_ref()));
        Ok(Response::new(v1::ListContainersResponse { containers: selected.map(|c| c.container.listed()).collect() }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        let state = self.lock();
        let scripted = state.container(&request.container_id)?;
        let mut info = std::collections::BTreeMap::new();
        if request.verbose {
            info.insert("ready".to_owned(), self.is_ready(scripted).to_string());
        }
        Ok(Response::new(v1::ContainerStatusResponse { status: Some(scripted.container.status()), info }))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        state.container(&request.container_id)?;
        if let Some(scripted) = state.containers.get_mut(&request.container_id) {
            scripted.container.config.linux.get_or_insert_default().resources = request.linux;
        }
        Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Result<Response<v1::ReopenContainerLogResponse>, Status> {
        self.lock().container(&request.into_inner().container_id)?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let state = self.lock();
        let scripted = state.container(&request.container_id)?;
        if !scripted.container.is_running() {
            return Err(Status::failed_precondition(format!("container {:?} is not running", request.container_id)));
        }
        let (exit_code, stdout) = match self.is_ready(scripted) {
            true => (0, String::new()),
            false => (1, format!("simulated container {} is not ready yet\n", scripted.container.name())),
        };
        Ok(Response::new(v1::ExecSyncResponse { stdout: stdout.into_bytes(), stderr: Vec::new(), exit_code }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Result<Response<v1::ExecResponse>, Status> {
        Err(self.nothing_to_stream(&request.into_inner().container_id, "execute a command in"))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachResponse>, Status> {
        Err(self.nothing_to_stream(&request.into_inner().container_id, "attach to"))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Result<Response<v1::PortForwardResponse>, Status> {
        Err(self.nothing_to_stream(&request.into_inner().pod_sandbox_id, "forward a port to"))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Result<Response<v1::ContainerStatsResponse>, Status> {
        let container = self.lock().container(&request.into_inner().container_id)?.container.clone();
        Ok(Response::new(v1::ContainerStatsResponse { stats: Some(self.stats(&container)) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Result<Response<v1::ListContainerStatsResponse>, Status> {
        let filter = request.into_inner().filter;
        let state = self.lock();
        let running = state.containers.values().map(|c| &c.container).filter(|c| c.is_running());
        let stats = running.filter(|c| c.matches_stats(filter.as_ref())).map(|c| self.stats(c)).collect();
        Ok(Response::new(v1::ListContainerStatsResponse { stats }))
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        let network = request.into_inner().runtime_config.and_then(|c| c.network_config);
        let cidr = network.map(|n| n.pod_cidr).unwrap_or_default();
        if !cidr.is_empty() {
            let cidr = cidr.parse::<Cidr>().map_err(|e| Status::invalid_argument(e.to_string()))?;
            self.lock().set_cidr(cidr);
        }
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let has_network = self.lock().has_network();
        Ok(Response::new(crate::status::response(has_network)))
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Result<Response<BoxStream<v1::ContainerEventResponse>>, Status> {
        Ok(Response::new(self.subscribers.subscribe().boxed()))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        Ok(Response::new(crate::status::runtime_config()))
    }
}

pub(super) fn refused(error: ScriptError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn nanoseconds(clock: &Clock) -> i64 {
    i64::try_from(clock.now().as_nanosecond()).unwrap_or(i64::MAX)
}
