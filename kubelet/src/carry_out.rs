//! Does what was decided for a pod that is to run: volumes, sandbox, images, containers.
//!
//! Entry: [`Worker::keep`]. Invariants: volumes are complete before the first container starts; one container is
//! started after the other; a failure is remembered as the reason why the container waits, and tried again later.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use client::EventType;
use cri::v1::{CreateContainerRequest, PodSandboxConfig, RunPodSandboxRequest, StartContainerRequest};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use crate::actions::{Actions, SandboxAction, Start, backoff_key};
use crate::checks::Target;
use crate::container_config::{self, Parts, container_config};
use crate::dns;
use crate::env::{Context, Objects, service_variables};
use crate::images::Images;
use crate::members::{Member, members};
use crate::sandbox_config::sandbox_config;
use crate::shared::{key, subject};
use crate::status::Waiting;
use crate::volumes::{self, refresh_at, token_requests};
use crate::worker::Worker;

/// When something that failed is tried again, unless it says so itself.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
const FIRST_MOUNT_RETRY_MILLIS: i64 = 500;
const LAST_MOUNT_RETRY_MILLIS: i64 = 122_000;

/// Why a container could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The reason it waits for.
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Option<Timestamp>,
}

impl StartError {
    /// To be tried again at the usual time.
    pub fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message, retry_at: None }
    }
}

/// What a pod's containers are made from.
struct Ground {
    objects: Objects,
    places: BTreeMap<String, PathBuf>,
}

impl Worker {
    /// Does what was decided; true if the runtime may have changed.
    pub(crate) async fn keep(&mut self, pod: &Pod, actions: &Actions) -> bool {
        let mut changed = false;
        if !actions.kill.is_empty() {
            self.kill_all(pod, &actions.kill).await;
            return true;
        }
        for id in &actions.stop_sandboxes {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.recorder.event(&subject(pod, None), EventType::Normal, "SandboxChanged", message);
            self.log(pod, "sandbox not stopped", self.shared.runtime.stop_sandbox(id).await);
            changed = true;
        }
        let creates = matches!(actions.sandbox, SandboxAction::Create { .. });
        let due = self.tokens_due.is_some_and(|due| due <= self.shared.clock.now());
        if creates || !actions.start.is_empty() || ((self.volumes_stale || due) && !self.view.containers.is_empty()) {
            let Some(ground) = self.prepare(pod).await else { return changed };
            changed |= self.start_all(pod, actions, &ground).await;
        }
        self.collect(pod, actions).await || changed
    }

    fn log(&self, pod: &Pod, what: &str, answer: Result<(), tonic::Status>) {
        if let Err(status) = answer {
            tracing::warn!(pod = %key(pod), error = status.message(), "{what}");
        }
    }

    async fn collect(&mut self, pod: &Pod, actions: &Actions) -> bool {
        for id in &actions.remove_containers {
            self.log(pod, "container not removed", self.shared.runtime.remove_container(id).await);
        }
        for id in &actions.remove_sandboxes {
            self.log(pod, "sandbox not removed", self.shared.runtime.remove_sandbox(id).await);
        }
        if !actions.remove_containers.is_empty() || !actions.remove_sandboxes.is_empty() {
            let (containers, sandboxes) = (&actions.remove_containers, &actions.remove_sandboxes);
            self.view.containers.retain(|container| !containers.contains(&container.id));
            self.view.sandboxes.retain(|sandbox| !sandboxes.contains(&sandbox.id));
        }
        false
    }

    /// Sets up what containers need; `None` if something is missing, which is reported and tried again.
    async fn prepare(&mut self, pod: &Pod) -> Option<Ground> {
        match self.try_prepare(pod).await {
            Ok(ground) => {
                self.mount_failures = 0;
                self.volumes_stale = false;
                Some(ground)
            }
            Err(message) => {
                self.shared.recorder.event(&subject(pod, None), EventType::Warning, "FailedMount", message);
                let wait = FIRST_MOUNT_RETRY_MILLIS << self.mount_failures.min(10);
                let wait = SignedDuration::from_millis(wait.min(LAST_MOUNT_RETRY_MILLIS));
                self.mount_failures += 1;
                self.volumes_stale = false;
                self.retry_at = self.shared.clock.now().checked_add(wait).ok();
                None
            }
        }
    }

    async fn try_prepare(&mut self, pod: &Pod) -> Result<Ground, String> {
        let objects = self.shared.references.hold(pod).await.map_err(|error| error.to_string())?;
        self.refresh_tokens(pod).await?;
        let node = self.shared.node();
        let ips = self.pod_ips();
        let context =
            volumes::Context { pod, node: &node.facts, pod_ips: &ips, objects: &objects, tokens: &self.tokens };
        let failed = |(name, error)| format!("MountVolume.SetUp failed for volume \"{name}\" : {error}");
        let places = self.shared.volumes.set_up(&context).map_err(failed)?;
        Ok(Ground { objects, places })
    }

    fn pod_ips(&self) -> Vec<String> {
        match self.view.ready_sandbox() {
            Some(sandbox) if sandbox.host_network => self.shared.node().facts.ips,
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        }
    }

    /// Asks the API for the tokens the pod's volumes need, before the old ones run out.
    async fn refresh_tokens(&mut self, pod: &Pod) -> Result<(), String> {
        let wanted = token_requests(pod);
        let now = self.shared.clock.now();
        let due = self.tokens_due.is_some_and(|due| due <= now);
        if !due && wanted.iter().all(|key| self.tokens.contains_key(key)) {
            return Ok(());
        }
        if self.shared.config.host.is_simulated() {
            // Nobody will read it.
            self.tokens = wanted.into_iter().map(|key| (key, String::from("simulated"))).collect();
            return Ok(());
        }
        let meta = &pod.metadata;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api = Api::<ServiceAccount>::namespaced(self.shared.client.clone(), namespace);
        self.tokens_due = None;
        for key in wanted {
            let audiences = if key.audience.is_empty() { Vec::new() } else { vec![key.audience.clone()] };
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    audiences: Some(audiences),
                    expiration_seconds: Some(key.expiration_seconds),
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".into()),
                        kind: Some("Pod".into()),
                        name: meta.name.clone(),
                        uid: meta.uid.clone(),
                    }),
                }),
                ..TokenRequest::default()
            };
            let answer = api.create_token_request(account, &PostParams::default(), &request).await;
            let status = answer.map_err(|error| format!("failed to fetch token: {error}"))?.status;
            let status = status.ok_or_else(|| String::from("failed to fetch token: the answer has no status"))?;
            let token = status.token.ok_or_else(|| String::from("failed to fetch token: the answer has no token"))?;
            if let Some(expiry) = status.expiration_timestamp {
                let at = refresh_at(now, expiry.0);
                self.tokens_due = Some(self.tokens_due.map_or(at, |other| other.min(at)));
            }
            self.tokens.insert(key, token);
        }
        Ok(())
    }

    async fn start_all(&mut self, pod: &Pod, actions: &Actions, ground: &Ground) -> bool {
        let attempt = match &actions.sandbox {
            SandboxAction::Create { attempt } => *attempt,
            SandboxAction::Keep(_) | SandboxAction::None => self.view.sandbox().map_or(0, |sandbox| sandbox.attempt),
        };
        let sandbox = sandbox_config(&self.shared.config, pod, attempt);
        let id = match &actions.sandbox {
            SandboxAction::Create { .. } => match self.create_sandbox(pod, &sandbox).await {
                Some(id) => id,
                None => return true,
            },
            SandboxAction::Keep(id) => id.clone(),
            SandboxAction::None => return false,
        };
        if self.pod_ips().is_empty() {
            match self.shared.runtime.observe(&self.uid).await {
                Ok(view) => self.view = view,
                Err(status) => tracing::warn!(pod = %key(pod), error = status.message(), "runtime not observed"),
            }
        }
        let all = members(pod);
        for start in &actions.start {
            let Some(member) = all.iter().find(|member| member.name() == start.name) else { continue };
            match self.start_one(pod, member, start, (&id, &sandbox), ground).await {
                Ok(()) => {
                    self.waiting.remove(&start.name);
                }
                Err(error) => {
                    let usual = self.shared.clock.now().checked_add(RETRY).ok();
                    let at = error.retry_at.or(usual);
                    self.retry_at = self.retry_at.into_iter().chain(at).min();
                    let waiting = Waiting { reason: error.reason.to_owned(), message: error.message };
                    self.waiting.insert(start.name.clone(), waiting);
                }
            }
        }
        creates_or_starts(actions)
    }

    async fn create_sandbox(&mut self, pod: &Pod, sandbox: &PodSandboxConfig) -> Option<String> {
        if !sandbox.log_directory.is_empty()
            && let Err(error) = fs::create_dir_all(&sandbox.log_directory)
        {
            tracing::warn!(pod = %key(pod), %error, "log directory not made");
        }
        let request = RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
        match self.shared.runtime.runtime.clone().run_pod_sandbox(request).await {
            Ok(answer) => Some(answer.into_inner().pod_sandbox_id),
            Err(status) => {
                let message = format!("Failed to create pod sandbox: {}", status.message());
                self.shared.recorder.event(&subject(pod, None), EventType::Warning, "FailedCreatePodSandBox", message);
                self.retry_at = self.shared.clock.now().checked_add(RETRY).ok();
                None
            }
        }
    }

    async fn start_one(
        &mut self,
        pod: &Pod,
        member: &Member,
        start: &Start,
        (sandbox_id, sandbox): (&str, &PodSandboxConfig),
        ground: &Ground,
    ) -> Result<(), StartError> {
        let subject = subject(pod, Some(member));
        let shared = self.shared.clone();
        let pull_secrets: Vec<_> = pod
            .spec
            .iter()
            .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
            .filter_map(|reference| ground.objects.secrets.get(&reference.name).cloned())
            .collect();
        let mut images = Images {
            runtime: &shared.runtime,
            recorder: &shared.recorder,
            clock: &shared.clock,
            backoffs: &mut self.image_backoffs,
            secrets: &pull_secrets,
        };
        let image = images.ensure(pod, &member.container, &subject, sandbox).await?;
        let fail = |reason: &'static str, message: String| {
            shared.recorder.event(&subject, EventType::Warning, "Failed", format!("Error: {message}"));
            StartError::new(reason, message)
        };
        let config = self
            .describe(pod, member, start.restart_count, &image, ground)
            .map_err(|message| fail("CreateContainerConfigError", message))?;
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let mut runtime = shared.runtime.runtime.clone();
        let created = runtime.create_container(request).await;
        let id = created
            .map_err(|status| fail("CreateContainerError", status.message().to_owned()))?
            .into_inner()
            .container_id;
        shared.recorder.event(&subject, EventType::Normal, "Created", "Container created");
        if let Some(since) = start.after {
            self.backoffs.advance(&backoff_key(member), since, shared.clock.now());
        }
        let started = runtime.start_container(StartContainerRequest { container_id: id.clone() }).await;
        started.map_err(|status| fail("RunContainerError", status.message().to_owned()))?;
        shared.recorder.event(&subject, EventType::Normal, "Started", "Container started");
        self.post_start(pod, member, &id).await
    }

    /// Runs the hook that belongs to a start; a container whose hook fails is killed.
    async fn post_start(&mut self, pod: &Pod, member: &Member, id: &str) -> Result<(), StartError> {
        let hook = member.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let ips = self.pod_ips();
        let target = Target {
            runtime: &self.shared.runtime,
            container_id: id,
            container: &member.container,
            pod_ip: ips.first().map(String::as_str).unwrap_or_default(),
            simulated: self.shared.config.host.is_simulated(),
        };
        let Err(complaint) = target.call(hook).await else { return Ok(()) };
        let message = format!("PostStartHook failed: {complaint}");
        let subject = subject(pod, Some(member));
        self.shared.recorder.event(&subject, EventType::Warning, "FailedPostStartHook", message.clone());
        let text = "FailedPostStartHook";
        self.shared.recorder.event(&subject, EventType::Normal, "Killing", text);
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        self.log(pod, "container not stopped", self.shared.runtime.stop_container(id, grace).await);
        Err(StartError::new("PostStartHookError", message))
    }

    /// A container's description, and the files it takes for granted.
    fn describe(
        &self,
        pod: &Pod,
        member: &Member,
        restart_count: u32,
        image: &cri::v1::Image,
        ground: &Ground,
    ) -> Result<cri::v1::ContainerConfig, String> {
        let node = self.shared.node();
        let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let services = service_variables(&self.shared.services.list(), namespace, links);
        let ips = self.pod_ips();
        let pod_dir = self.shared.volumes.pod_dir(&self.uid);
        if let Some(dir) = &pod_dir {
            self.make_files(pod, member, restart_count, dir, &ips).map_err(|error| error.to_string())?;
        }
        let context = Context { pod, node: &node.facts, pod_ips: &ips, objects: &ground.objects, services: &services };
        let parts = Parts {
            context,
            member,
            restart_count,
            image,
            volumes: &ground.places,
            pod_dir: pod_dir.as_deref(),
            node_memory: node.memory,
        };
        container_config(&parts).map_err(|error| error.to_string())
    }

    fn make_files(
        &self,
        pod: &Pod,
        member: &Member,
        restart_count: u32,
        dir: &Path,
        ips: &[String],
    ) -> std::io::Result<()> {
        let message = container_config::message_file(dir, member.name(), restart_count);
        if let Some(parent) = message.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(&message)?;
        fs::set_permissions(&message, fs::Permissions::from_mode(0o666))?;
        let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
        let text = if host_network {
            let host = fs::read_to_string("/etc/hosts").unwrap_or_default();
            dns::hosts_file_on_host_network(pod, &host)
        } else {
            dns::hosts_file(pod, ips, &self.shared.config.resolvers.cluster_domain)
        };
        fs::write(container_config::hosts_file(dir), text)?;
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let logs = self.shared.config.pod_log_dir(&text(&meta.namespace), &text(&meta.name), &self.uid);
        logs.map_or(Ok(()), |logs| fs::create_dir_all(logs.join(member.name())))
    }
}

fn creates_or_starts(actions: &Actions) -> bool {
    matches!(actions.sandbox, SandboxAction::Create { .. }) || !actions.start.is_empty()
}
