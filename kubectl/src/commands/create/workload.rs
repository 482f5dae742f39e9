//! `kubectl create deployment`, `job` and `cronjob`.

use serde_json::{Value, json};

use super::{Write, named};
use crate::failure::{Failure, Result};
use crate::session::Session;
use crate::targets;

/// Flags of `deployment`.
#[derive(Debug, clap::Args)]
pub struct Deployment {
    name: String,
    /// Image of a container; may be repeated
    #[arg(long, required = true, value_delimiter = ',')]
    image: Vec<String>,
    /// Number of pods
    #[arg(short, long, default_value_t = 1)]
    replicas: i64,
    /// The port that the container listens at
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    pub write: Write,
    /// The container's command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

/// Flags of `job`.
#[derive(Debug, clap::Args)]
pub struct Job {
    name: String,
    /// Image of the container
    #[arg(long)]
    image: Option<String>,
    /// The object whose template it has: cronjob/NAME
    #[arg(long, conflicts_with = "image")]
    from: Option<String>,
    #[command(flatten)]
    pub write: Write,
    /// The container's command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

/// Flags of `cronjob`.
#[derive(Debug, clap::Args)]
pub struct CronJob {
    name: String,
    /// Image of the container
    #[arg(long)]
    image: String,
    /// When, in cron's notation
    #[arg(long)]
    schedule: String,
    /// OnFailure or Never
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    #[command(flatten)]
    pub write: Write,
    /// The container's command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

fn container(name: &str, image: &str, command: &[String]) -> Value {
    let mut container = json!({"image": image, "name": name, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    container
}

/// `registry/path/nginx:1.2@sha…` → `nginx`.
fn image_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split([':', '@']).next().unwrap_or(last).replace('_', "-")
}

impl Deployment {
    /// The deployment; its label is `app`.
    pub fn object(&self) -> Value {
        let labels = json!({"app": self.name});
        let mut containers: Vec<Value> =
            self.image.iter().map(|image| container(&image_name(image), image, &self.command)).collect();
        if let (Some(port), Some(first)) = (self.port, containers.first_mut()) {
            first["ports"] = json!([{"containerPort": port}]);
        }
        let mut object = named("apps/v1", "Deployment", &self.name);
        object["metadata"]["labels"] = labels.clone();
        object["spec"] = json!({
            "replicas": self.replicas,
            "selector": {"matchLabels": labels},
            "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        });
        object["status"] = json!({});
        object
    }
}

fn job_spec(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    let pod = json!({"containers": [container(name, image, command)], "restartPolicy": restart});
    json!({"template": {"metadata": {}, "spec": pod}})
}

impl Job {
    /// The job, of an image or of a cron job's template.
    pub async fn object(&self, session: &Session) -> Result<Value> {
        let mut object = named("batch/v1", "Job", &self.name);
        object["status"] = json!({});
        match (&self.image, &self.from) {
            (Some(image), _) => object["spec"] = job_spec(&self.name, image, &self.command, "Never"),
            (None, Some(from)) => {
                let target = targets::one(session, std::slice::from_ref(from), "cronjobs").await?;
                let owner = target.get(session).await?;
                if owner["kind"] != "CronJob" {
                    return Err(Failure::usage(format!("unknown object type {}", owner["kind"])));
                }
                object["spec"] = owner["spec"]["jobTemplate"]["spec"].clone();
                object["metadata"]["labels"] = owner["spec"]["jobTemplate"]["metadata"]["labels"].clone();
                object["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
                object["metadata"]["ownerReferences"] = json!([{"apiVersion": owner["apiVersion"], "kind": "CronJob",
                    "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": true}]);
            }
            (None, None) => return Err(Failure::usage("either --image or --from must be specified")),
        }
        Ok(object)
    }
}

impl CronJob {
    /// The cron job.
    pub fn object(&self) -> Value {
        let mut object = named("batch/v1", "CronJob", &self.name);
        let spec = job_spec(&self.name, &self.image, &self.command, &self.restart);
        object["spec"] =
            json!({"jobTemplate": {"metadata": {"name": self.name}, "spec": spec}, "schedule": self.schedule});
        object["status"] = json!({});
        object
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn containers_are_named_after_their_images() {
        for (image, name) in [("nginx", "nginx"), ("r.io:80/a/my_web:1.2", "my-web"), ("x@sha256:00", "x")] {
            assert_eq!(super::image_name(image), name);
        }
    }
}
