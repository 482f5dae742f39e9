//! The simulated runtime through its real protocol, in one process, on paused time.

use std::time::Duration;

use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::{self, ContainerEventType, ContainerState};
use process::{Clock, Rng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;

struct Node {
    runtime: RuntimeServiceClient<Transport>,
    images: ImageServiceClient<Transport>,
    token: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

fn node() -> Node {
    let token = CancellationToken::new();
    let config = Config { node_name: "n1".to_owned(), pod_cidr: Some("10.1.0.0/24".to_owned()), write_logs: false };
    let clock = Clock::starting_at(jiff::Timestamp::from_second(1_700_000_000).expect("in range"));
    let simulated = Simulated::new(config, clock, Rng::seeded(1), token.clone()).expect("valid range");
    let channel = simulated.connect();
    Node { runtime: RuntimeServiceClient::new(channel.clone()), images: ImageServiceClient::new(channel), token }
}

impl Node {
    async fn sandbox(&mut self, annotations: &[(&str, &str)]) -> String {
        let annotations = annotations.iter().map(|(k, v)| (format!("simulated.kubelab.io/{k}"), (*v).to_owned()));
        let config = v1::PodSandboxConfig { annotations: annotations.collect(), ..Default::default() };
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        self.runtime.run_pod_sandbox(request).await.expect("sandbox").into_inner().pod_sandbox_id
    }

    async fn container(&mut self, sandbox: &str, name: &str) -> String {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: "nginx".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        self.runtime.create_container(request).await.expect("created").into_inner().container_id
    }

    async fn start(&mut self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(|_| ())
    }

    async fn status(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime.container_status(request).await.expect("exists").into_inner().status.expect("set")
    }
}

#[tokio::test(start_paused = true)]
async fn runs_for_ever_in_a_few_milliseconds() {
    let mut node = node();
    let began = Instant::now();
    let sandbox = node.sandbox(&[]).await;
    let id = node.container(&sandbox, "app").await;
    node.start(&id).await.expect("starts");
    assert!(began.elapsed() < Duration::from_millis(20));
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox, verbose: false };
    let status = node.runtime.pod_sandbox_status(request).await.expect("exists").into_inner().status.expect("set");
    assert_eq!(status.network.expect("set").ip, "10.1.0.2");
}

#[tokio::test(start_paused = true)]
async fn follows_its_script_and_tells_by_events() {
    let mut node = node();
    let mut events = node.runtime.get_container_events(v1::GetEventsRequest {}).await.expect("stream").into_inner();
    let sandbox = node.sandbox(&[("exit-after.app", "10s"), ("exit-code", "3"), ("oom-after.fat", "5s")]).await;
    let app = node.container(&sandbox, "app").await;
    let fat = node.container(&sandbox, "fat").await;
    node.start(&app).await.expect("starts");
    node.start(&fat).await.expect("starts");
    let mut stopped = Vec::new();
    while stopped.len() < 2 {
        let event = events.message().await.expect("open").expect("not ended");
        if event.container_event_type() == ContainerEventType::ContainerStoppedEvent {
            stopped.push(event.container_id);
        }
    }
    assert_eq!(stopped, [fat.clone(), app.clone()]);
    let end = |s: v1::ContainerStatus| (s.exit_code, s.reason);
    assert_eq!(end(node.status(&app).await), (3, "Error".to_owned()));
    assert_eq!(end(node.status(&fat).await), (137, "OOMKilled".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn stops_within_its_grace_or_is_killed() {
    for (delay, grace, code, took) in [("2s", 30, 0, 2), ("60s", 5, 137, 5), ("1ms", 0, 137, 0)] {
        let mut node = node();
        let sandbox = node.sandbox(&[("stop-delay", delay)]).await;
        let id = node.container(&sandbox, "app").await;
        node.start(&id).await.expect("starts");
        let began = Instant::now();
        let request = v1::StopContainerRequest { container_id: id.clone(), timeout: grace };
        node.runtime.stop_container(request).await.expect("stops");
        assert_eq!((node.status(&id).await.exit_code, began.elapsed().as_secs()), (code, took), "{delay}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_scripted_too() {
    let mut node = node();
    let sandbox = node.sandbox(&[("start-error", "no such file"), ("ready-delay", "1m")]).await;
    let id = node.container(&sandbox, "app").await;
    assert_eq!(node.start(&id).await.expect_err("scripted").message(), "no such file");
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    let config = v1::PodSandboxConfig {
        annotations: [("simulated.kubelab.io/pull-error".to_owned(), "denied".to_owned())].into(),
        ..Default::default()
    };
    let image = Some(v1::ImageSpec { image: "nginx".to_owned(), ..Default::default() });
    let request = v1::PullImageRequest { image: image.clone(), auth: None, sandbox_config: Some(config) };
    assert_eq!(node.images.pull_image(request).await.expect_err("scripted").message(), "denied");
    let pull = v1::PullImageRequest { image: image.clone(), auth: None, sandbox_config: None };
    let pulled = node.images.pull_image(pull).await.expect("exists").into_inner().image_ref;
    let request = v1::ImageStatusRequest { image, verbose: false };
    let found = node.images.image_status(request).await.expect("answers").into_inner().image.expect("present");
    assert_eq!((found.id, found.repo_tags), (pulled, vec!["docker.io/library/nginx:latest".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn removing_a_sandbox_removes_everything_twice() {
    let mut node = node();
    let sandbox = node.sandbox(&[]).await;
    let id = node.container(&sandbox, "app").await;
    node.start(&id).await.expect("starts");
    for _ in 0..2 {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() };
        node.runtime.remove_pod_sandbox(request).await.expect("idempotent");
    }
    let left = node.runtime.list_containers(v1::ListContainersRequest { filter: None }).await.expect("lists");
    assert!(left.into_inner().containers.is_empty());
    let exec = v1::ExecRequest { container_id: id, ..Default::default() };
    let refused = node.runtime.exec(exec).await.expect_err("simulated");
    assert!(refused.message().contains("is simulated"), "{}", refused.message());
}
