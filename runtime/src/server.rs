//! CRI's calls on the real runtime: each is handed to [`Linux`] and its answer put into CRI's form.
//!
//! Invariant: a change goes on to its end even when the caller hangs up, because it runs in a task of its own.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri::images::image_loader_server::ImageLoader;
use cri::images::{LoadRequest, LoadResponse, LoadedImage};
use cri::v1;
use cri::v1::image_service_server::ImageService;
use cri::v1::runtime_service_server::RuntimeService;
use futures::StreamExt as _;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::addresses::Cidr;
use crate::control;
use crate::images::{Image, SOURCE};
use crate::linux::{Linux, LinuxError};
use crate::record::{Container, Sandbox, selects};
use crate::streams::{Stream, Streams};

/// The real runtime behind CRI.
pub struct Server {
    linux: Arc<Linux>,
    streams: Arc<Streams>,
}

impl Server {
    /// Of a runtime and its endpoint for streams.
    pub fn new(linux: Arc<Linux>, streams: Arc<Streams>) -> Self {
        Self { linux, streams }
    }

    fn ticket(&self, stream: Stream) -> String {
        self.streams.url(stream)
    }

    fn running(&self, id: &str) -> Result<Container, Status> {
        let container = self.linux.container(id)?;
        match container.is_running() {
            true => Ok(container),
            false => Err(Status::failed_precondition(format!("container {id:?} is not running"))),
        }
    }
}

/// Runs to its end, whether or not somebody still waits for the answer.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, LinuxError>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(work).await.map_err(LinuxError::Task)?;
    Ok(done?)
}

fn answer<T>(answer: T) -> Result<Response<T>, Status> {
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl RuntimeService for Server {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        answer(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "kubelab".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        let (linux, request) = (self.linux.clone(), request.into_inner());
        let pod_sandbox_id = to_the_end(async move { linux.run_sandbox(request).await }).await?;
        answer(v1::RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let (linux, id) = (self.linux.clone(), request.into_inner().pod_sandbox_id);
        to_the_end(async move { linux.stop_sandbox(&id).await }).await?;
        answer(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        let (linux, id) = (self.linux.clone(), request.into_inner().pod_sandbox_id);
        to_the_end(async move { linux.remove_sandbox(&id).await }).await?;
        answer(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        answer(v1::PodSandboxStatusResponse {
            status: Some(self.linux.sandbox(&id)?.status()),
            info: Default::default(),
            containers_statuses: self.linux.statuses_of(&id),
            timestamp: self.linux.now(),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        let filter = request.into_inner().filter;
        let selected = self.linux.sandboxes().into_iter().filter(|s| s.matches(filter.as_ref()));
        answer(v1::ListPodSandboxResponse { items: selected.map(|s| s.listed()).collect() })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let (linux, request) = (self.linux.clone(), request.into_inner());
        let container_id = to_the_end(async move { linux.create_container(request).await }).await?;
        answer(v1::CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let (linux, id) = (self.linux.clone(), request.into_inner().container_id);
        to_the_end(async move { linux.start_container(&id).await }).await?;
        answer(v1::StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let (linux, request) = (self.linux.clone(), request.into_inner());
        let grace = Duration::from_secs(request.timeout.try_into().unwrap_or(0));
        to_the_end(async move { linux.stop_container(&request.container_id, grace).await }).await?;
        answer(v1::StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let (linux, id) = (self.linux.clone(), request.into_inner().container_id);
        to_the_end(async move { linux.remove_container(&id).await }).await?;
        answer(v1::RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let filter = request.into_inner().filter;
        let selected = self.linux.containers().into_iter().filter(|c| c.matches(filter.as_ref()));
        answer(v1::ListContainersResponse { containers: selected.map(|c| c.listed()).collect() })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let container = self.linux.container(&request.into_inner().container_id)?;
        answer(v1::ContainerStatusResponse { status: Some(container.status()), info: Default::default() })
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        let (linux, request) = (self.linux.clone(), request.into_inner());
        let resources = request.linux.ok_or_else(|| Status::invalid_argument("linux resources are required"))?;
        to_the_end(async move { linux.update_resources(&request.container_id, resources).await }).await?;
        answer(v1::UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Result<Response<v1::ReopenContainerLogResponse>, Status> {
        let id = request.into_inner().container_id;
        self.running(&id)?;
        control::reopen_log(&self.linux.container_directory(&id)).await.map_err(LinuxError::from)?;
        answer(v1::ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let timeout = u64::try_from(request.timeout).ok().filter(|t| *t > 0).map(Duration::from_secs);
        let finished = self.linux.execute_to_end(&request.container_id, &request.cmd, timeout).await?;
        answer(v1::ExecSyncResponse { stdout: finished.stdout, stderr: finished.stderr, exit_code: finished.code })
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Result<Response<v1::ExecResponse>, Status> {
        let request = request.into_inner();
        self.running(&request.container_id)?;
        let (container_id, command) = (request.container_id, request.cmd);
        let v1::ExecRequest { tty, stdin, stdout, stderr, .. } = request;
        let url = self.ticket(Stream::Exec { container_id, command, tty, stdin, stdout, stderr });
        answer(v1::ExecResponse { url })
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachResponse>, Status> {
        let request = request.into_inner();
        let container = self.running(&request.container_id)?;
        let stdin = request.stdin && container.config.stdin;
        let v1::AttachRequest { container_id, tty, stdout, stderr, .. } = request;
        let url = self.ticket(Stream::Attach { container_id, tty, stdin, stdout, stderr });
        answer(v1::AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Result<Response<v1::PortForwardResponse>, Status> {
        let request = request.into_inner();
        let sandbox = self.linux.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.ready {
            return Err(Status::failed_precondition(format!("sandbox {:?} is not ready", sandbox.id)));
        }
        let ports = request.port.iter().filter_map(|p| u16::try_from(*p).ok()).collect();
        let url = self.ticket(Stream::PortForward { sandbox_id: sandbox.id, ports });
        answer(v1::PortForwardResponse { url })
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Result<Response<v1::ContainerStatsResponse>, Status> {
        let container = self.linux.container(&request.into_inner().container_id)?;
        answer(v1::ContainerStatsResponse { stats: Some(self.linux.container_stats(&container)) })
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Result<Response<v1::ListContainerStatsResponse>, Status> {
        let filter = request.into_inner().filter;
        let running = self.linux.containers().into_iter().filter(Container::is_running);
        let selected = running.filter(|c| c.matches_stats(filter.as_ref()));
        answer(v1::ListContainerStatsResponse { stats: selected.map(|c| self.linux.container_stats(&c)).collect() })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Result<Response<v1::PodSandboxStatsResponse>, Status> {
        let sandbox = self.linux.sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(v1::PodSandboxStatsResponse { stats: Some(self.linux.sandbox_stats(&sandbox)) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Result<Response<v1::ListPodSandboxStatsResponse>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let wanted = |s: &Sandbox| s.id.starts_with(&filter.id) && selects(&filter.label_selector, &s.config.labels);
        let ready = self.linux.sandboxes().into_iter().filter(|s| s.ready && wanted(s));
        answer(v1::ListPodSandboxStatsResponse { stats: ready.map(|s| self.linux.sandbox_stats(&s)).collect() })
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        let network = request.into_inner().runtime_config.and_then(|c| c.network_config);
        let cidr = network.map(|n| n.pod_cidr).unwrap_or_default();
        if !cidr.is_empty() {
            self.linux.set_cidr(cidr.parse::<Cidr>().map_err(LinuxError::from)?)?;
        }
        answer(v1::UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        answer(crate::status::response(self.linux.has_network()))
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Result<Response<BoxStream<v1::ContainerEventResponse>>, Status> {
        answer(self.linux.subscribers.subscribe().boxed())
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        answer(crate::status::runtime_config())
    }
}

#[tonic::async_trait]
impl ImageService for Server {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let wanted = request.into_inner().filter.and_then(|f| f.image).map(|i| i.image).filter(|i| !i.is_empty());
        let images = match wanted {
            Some(wanted) => self.linux.images.find(&wanted).into_iter().collect(),
            None => self.linux.images.list(),
        };
        answer(v1::ListImagesResponse { images: images.iter().map(told).collect() })
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let wanted = request.into_inner().image.unwrap_or_default().image;
        let image = self.linux.images.find(&wanted).as_ref().map(told);
        answer(v1::ImageStatusResponse { image, info: Default::default() })
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let (linux, request) = (self.linux.clone(), request.into_inner());
        let wanted = request.image.unwrap_or_default().image;
        let image = to_the_end(async move { Ok(linux.images.pull(&wanted, request.auth.as_ref()).await?) }).await?;
        answer(v1::PullImageResponse { image_ref: image.id })
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let (linux, wanted) = (self.linux.clone(), request.into_inner().image.unwrap_or_default().image);
        let removed = tokio::task::spawn_blocking(move || {
            linux.images.remove(&wanted)?;
            linux.collect_layers()
        });
        removed.await.map_err(LinuxError::Task)??;
        answer(v1::RemoveImageResponse {})
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        let usage = v1::FilesystemUsage {
            timestamp: self.linux.now(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: self.linux.images.root().display().to_string() }),
            used_bytes: Some(v1::UInt64Value { value: self.linux.images.size() }),
            inodes_used: None,
        };
        answer(v1::ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
    }
}

#[tonic::async_trait]
impl ImageLoader for Server {
    async fn load(&self, request: Request<LoadRequest>) -> Result<Response<LoadResponse>, Status> {
        let (linux, path) = (self.linux.clone(), PathBuf::from(request.into_inner().path));
        if !path.is_absolute() {
            return Err(Status::invalid_argument(format!("{} is not an absolute path", path.display())));
        }
        let loaded = tokio::task::spawn_blocking(move || linux.images.import(&path).map_err(LinuxError::from));
        let images = loaded.await.map_err(LinuxError::Task)??;
        let images = images.into_iter().map(|i| LoadedImage { id: i.id, names: i.names.into_iter().collect() });
        answer(LoadResponse { images: images.collect() })
    }
}

/// An image in CRI's form.
fn told(image: &Image) -> v1::Image {
    let user = image.process.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    v1::Image {
        id: image.id.clone(),
        repo_tags: image.names.iter().cloned().collect(),
        repo_digests: image.digests.iter().cloned().collect(),
        size: image.size.max(1),
        uid: uid.map(|value| v1::Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: Some(v1::ImageSpec {
            image: image.names.first().cloned().unwrap_or_default(),
            annotations: [(SOURCE.to_owned(), image.source.as_str().to_owned())].into(),
            ..Default::default()
        }),
        pinned: image.source == crate::images::Source::Builtin,
    }
}
