//! Which image a container starts from: the one present, or one pulled first.
//!
//! Entry: [`decide`] (pure) and [`Images::ensure`]. Invariant: an image that was loaded on this node (or is built in)
//! is never replaced behind the user's back and never needs a network, whatever the pull policy.

use std::time::Duration;

use client::{EventType, Recorder};
use cri::v1::{AuthConfig, Image, ImageSpec, PodSandboxConfig, PullImageRequest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Secret};
use process::Clock;

use crate::backoff::{Backoffs, go_duration};
use crate::carry_out::StartError;
use crate::runtime::Runtime;

/// Where an image came from, as the runtime notes it: `file`, `registry` or `builtin`.
const SOURCE: &str = "kubelab.io/source";

/// What to do about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    UsePresent,
    Pull,
    /// Policy Never, and it is not there.
    Refuse,
}

/// Decides from the policy and what is present.
pub fn decide(policy: &str, present: bool, local: bool) -> Decision {
    match (policy, present) {
        ("Never", false) => Decision::Refuse,
        ("Never" | "IfNotPresent", true) => Decision::UsePresent,
        // A deviation from Kubernetes: `image: nginx` is defaulted to Always, which nobody who loaded it means.
        (_, true) if local => Decision::UsePresent,
        (_, _) => Decision::Pull,
    }
}

/// True if the runtime says that the image was put there by hand or belongs to it.
fn is_local(image: &Image) -> bool {
    let source = image.spec.as_ref().and_then(|spec| spec.annotations.get(SOURCE)).map(String::as_str);
    matches!(source, Some("file" | "builtin"))
}

/// The policy that holds for a container: its own, or the default for its tag.
fn policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref().filter(|policy| !policy.is_empty()) {
        Some(policy) => policy,
        None => {
            let image = container.image.as_deref().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let untagged = !last.contains(':') && !last.contains('@');
            if untagged || last.ends_with(":latest") { "Always" } else { "IfNotPresent" }
        }
    }
}

/// Pulls images for one pod.
pub struct Images<'a> {
    pub runtime: &'a Runtime,
    pub recorder: &'a Recorder,
    pub clock: &'a Clock,
    pub backoffs: &'a mut Backoffs,
    /// The pull secrets of the pod.
    pub secrets: &'a [std::sync::Arc<Secret>],
}

impl Images<'_> {
    /// Makes sure that the container's image is present.
    pub async fn ensure(
        &mut self,
        pod: &Pod,
        container: &Container,
        subject: &ObjectReference,
        sandbox: &PodSandboxConfig,
    ) -> Result<Image, StartError> {
        let name = container.image.clone().unwrap_or_default();
        let present = match self.runtime.image(&name).await {
            Ok(image) => image,
            Err(status) => return Err(self.fail(subject, "ImageInspectError", inspect_message(&name, &status))),
        };
        match (decide(policy(container), present.is_some(), present.as_ref().is_some_and(is_local)), present) {
            (Decision::UsePresent, Some(image)) => {
                self.present(subject, &name);
                Ok(image)
            }
            (Decision::Refuse, _) => {
                let message = format!("Container image \"{name}\" is not present with pull policy of Never");
                self.recorder.event(subject, EventType::Warning, "ErrImageNeverPull", message.clone());
                Err(StartError::new("ErrImageNeverPull", message))
            }
            (Decision::Pull | Decision::UsePresent, present) => {
                self.pull_or_wait(pod, &name, subject, sandbox, present).await
            }
        }
    }

    fn present(&self, subject: &ObjectReference, name: &str) {
        let message = format!("Container image \"{name}\" already present on machine and can be accessed by the pod");
        self.recorder.event(subject, EventType::Normal, "Pulled", message);
    }

    async fn pull_or_wait(
        &mut self,
        pod: &Pod,
        name: &str,
        subject: &ObjectReference,
        sandbox: &PodSandboxConfig,
        present: Option<Image>,
    ) -> Result<Image, StartError> {
        let key = format!("{}_{name}", pod.metadata.uid.as_deref().unwrap_or_default());
        let now = self.clock.now();
        if let Some(until) = self.pause(&key, now) {
            let message = format!("Back-off pulling image \"{name}\"");
            self.recorder.event(subject, EventType::Normal, "BackOff", message.clone());
            self.recorder.event(subject, EventType::Warning, "Failed", "Error: ImagePullBackOff");
            return Err(StartError { retry_at: Some(until), ..StartError::new("ImagePullBackOff", message) });
        }
        self.recorder.event(subject, EventType::Normal, "Pulling", format!("Pulling image \"{name}\""));
        match self.pull(name, sandbox).await {
            Ok(image) => {
                self.backoffs.reset(&key);
                let took = self.clock.now().duration_since(now);
                let took = go_seconds(Duration::try_from(took).unwrap_or_default());
                let message = format!(
                    "Successfully pulled image \"{name}\" in {took} ({took} including waiting). Image size: {} bytes.",
                    image.size
                );
                self.recorder.event(subject, EventType::Normal, "Pulled", message);
                Ok(image)
            }
            Err(status) => match present.filter(|_| is_unreachable(&status)) {
                Some(image) => {
                    let message = format!(
                        "Registry of image \"{name}\" cannot be reached; using the image present on machine: {}",
                        status.message()
                    );
                    self.recorder.event(subject, EventType::Warning, "PullSkipped", message);
                    self.present(subject, name);
                    Ok(image)
                }
                None => Err(self.pull_failed(&key, name, subject, &status)),
            },
        }
    }

    /// Until when a failed pull is not tried again; counted from the last attempt.
    fn pause(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let since = self.backoffs.updated_at(key)?;
        self.backoffs.waits_until(key, since, now).map(|(until, _)| until)
    }

    fn pull_failed(&mut self, key: &str, name: &str, subject: &ObjectReference, status: &tonic::Status) -> StartError {
        let now = self.clock.now();
        let since = self.backoffs.updated_at(key).unwrap_or(now);
        self.backoffs.advance(key, since, now);
        let until = self.backoffs.waits_until(key, now, now);
        let text = format!("Failed to pull image \"{name}\": {}", status.message());
        self.recorder.event(subject, EventType::Warning, "Failed", text.clone());
        self.recorder.event(subject, EventType::Warning, "Failed", "Error: ErrImagePull");
        tracing::info!(
            image = name,
            wait = until.map(|(_, d)| go_duration(d)),
            error = status.message(),
            "pull failed"
        );
        // The next look is right away: it turns ErrImagePull into ImagePullBackOff, as in Kubernetes.
        let soon = now.checked_add(jiff::SignedDuration::from_secs(2)).ok();
        StartError { retry_at: soon, ..StartError::new("ErrImagePull", status.message().to_owned()) }
    }

    fn fail(&self, subject: &ObjectReference, reason: &'static str, message: String) -> StartError {
        self.recorder.event(subject, EventType::Warning, "InspectFailed", message.clone());
        StartError::new(reason, message)
    }

    async fn pull(&self, name: &str, sandbox: &PodSandboxConfig) -> Result<Image, tonic::Status> {
        let mut credentials: Vec<Option<AuthConfig>> = credentials(self.secrets, name).into_iter().map(Some).collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut last = tonic::Status::internal("no attempt was made");
        for auth in credentials {
            let spec = ImageSpec { image: name.to_owned(), ..ImageSpec::default() };
            let request = PullImageRequest { image: Some(spec), auth, sandbox_config: Some(sandbox.clone()) };
            match self.runtime.images.clone().pull_image(request).await {
                Ok(_) => {
                    let image = self.runtime.image(name).await?;
                    return image.ok_or_else(|| tonic::Status::internal(format!("{name} is absent after its pull")));
                }
                Err(status) => last = status,
            }
        }
        Err(last)
    }
}

fn inspect_message(name: &str, status: &tonic::Status) -> String {
    format!("Failed to inspect image \"{name}\": {}", status.message())
}

/// Whether a pull failed on the way to the registry rather than in it.
fn is_unreachable(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Unimplemented)
}

/// As Go prints a duration below a minute: `1.234s`, `56ms`.
fn go_seconds(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What docker config files say about the registry of an image.
fn credentials(secrets: &[std::sync::Arc<Secret>], image: &str) -> Vec<AuthConfig> {
    let registry = match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) | None => "docker.io",
    };
    let mut found = Vec::new();
    for secret in secrets {
        let data = secret.data.iter().flatten();
        let file = data.filter(|(key, _)| key.as_str() == ".dockerconfigjson").map(|(_, value)| &value.0).next();
        let parsed: Option<serde_json::Value> = file.and_then(|bytes| serde_json::from_slice(bytes).ok());
        let auths = parsed.as_ref().and_then(|value| value.get("auths")).and_then(|auths| auths.as_object());
        for (server, entry) in auths.into_iter().flatten() {
            let host = server.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or_default();
            if host == registry || (registry == "docker.io" && host == "index.docker.io") {
                let text = |key: &str| entry.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
                found.push(AuthConfig {
                    username: text("username"),
                    password: text("password"),
                    auth: text("auth"),
                    server_address: server.clone(),
                    identity_token: text("identitytoken"),
                    registry_token: text("registrytoken"),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let table = [
            ("Always", false, false, Decision::Pull),
            ("Always", true, false, Decision::Pull),
            ("Always", true, true, Decision::UsePresent),
            ("IfNotPresent", true, false, Decision::UsePresent),
            ("IfNotPresent", false, false, Decision::Pull),
            ("Never", true, false, Decision::UsePresent),
            ("Never", false, false, Decision::Refuse),
        ];
        for (policy, present, local, expected) in table {
            assert_eq!(decide(policy, present, local), expected, "{policy} {present} {local}");
        }
    }

    #[test]
    fn default_policies() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("nginx@sha256:0", "IfNotPresent"),
        ] {
            let container = Container { image: Some(image.into()), ..Container::default() };
            assert_eq!(policy(&container), expected, "{image}");
        }
    }
}
