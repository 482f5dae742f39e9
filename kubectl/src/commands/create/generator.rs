//! The generators of `kubectl create`, by name. Entry point: [`run`].

use clap::Subcommand;
use serde_json::Value;

use super::{Write, create, data, named, policy, rbac, service, token, workload};
use crate::failure::{Failure, Result};
use crate::manifest::Manifest;
use crate::session::Session;

/// What to make.
#[derive(Debug, Subcommand)]
pub enum Generator {
    /// Create a namespace with the specified name
    #[command(visible_alias = "ns")]
    Namespace(OnlyName),
    /// Create a service account with the specified name
    #[command(visible_alias = "sa")]
    Serviceaccount(OnlyName),
    /// Create a config map from literals or files
    #[command(visible_alias = "cm")]
    Configmap(data::ConfigMap),
    /// Create a secret: generic, docker-registry or tls
    #[command(subcommand)]
    Secret(data::Secret),
    /// Request a service account token
    Token(token::Args),
    /// Create a deployment with the specified name
    #[command(visible_alias = "deploy")]
    Deployment(workload::Deployment),
    /// Create a job with the specified name
    Job(workload::Job),
    /// Create a cron job with the specified name
    #[command(visible_alias = "cj")]
    Cronjob(workload::CronJob),
    /// Create a service: clusterip, nodeport, loadbalancer or externalname
    #[command(subcommand, visible_alias = "svc")]
    Service(service::Service),
    /// Create a role with single rule
    Role(rbac::Role),
    /// Create a cluster role
    Clusterrole(rbac::ClusterRole),
    /// Create a role binding for a particular role or cluster role
    Rolebinding(rbac::RoleBinding),
    /// Create a cluster role binding for a particular cluster role
    Clusterrolebinding(rbac::ClusterRoleBinding),
    /// Create a quota with the specified name
    #[command(visible_alias = "resourcequota")]
    Quota(policy::Quota),
    /// Create a pod disruption budget with the specified name
    #[command(visible_alias = "pdb")]
    Poddisruptionbudget(policy::Budget),
    /// Create a priority class with the specified name
    #[command(visible_alias = "pc")]
    Priorityclass(policy::PriorityClass),
}

/// Flags of what has nothing but a name.
#[derive(Debug, clap::Args)]
pub struct OnlyName {
    name: String,
    #[command(flatten)]
    write: Write,
}

/// Makes it. A refusal says what could not be created, as the official kubectl words it for each.
pub async fn run(session: &Session, generator: Generator) -> Result<()> {
    let (object, write, what): (Value, Write, Option<&str>) = match generator {
        Generator::Token(_) => unreachable!("a token is asked for, not created"),
        Generator::Namespace(args) => {
            let mut object = named("v1", "Namespace", &args.name);
            object["spec"] = serde_json::json!({});
            object["status"] = serde_json::json!({});
            (object, args.write, None)
        }
        Generator::Serviceaccount(args) => {
            (named("v1", "ServiceAccount", &args.name), args.write, Some("serviceaccount"))
        }
        Generator::Configmap(args) => (args.object()?, args.write, Some("configmap")),
        Generator::Secret(kind) => {
            let object = kind.object()?;
            (object, kind.into_write(), Some("secret"))
        }
        Generator::Deployment(args) => (args.object(), args.write, Some("deployment")),
        Generator::Job(args) => (args.object(session).await?, args.write, Some("job")),
        Generator::Cronjob(args) => (args.object(), args.write, Some("cronjob")),
        Generator::Service(kind) => {
            let (object, what) = (kind.object()?, kind.named());
            (object, kind.into_write(), Some(what))
        }
        Generator::Role(args) => (args.object(session).await?, args.write, None),
        Generator::Clusterrole(args) => (args.object(session).await?, args.write, None),
        Generator::Rolebinding(args) => (args.object()?, args.write, Some("rolebinding")),
        Generator::Clusterrolebinding(args) => (args.object()?, args.write, Some("clusterrolebinding")),
        Generator::Quota(args) => (args.object()?, args.write, Some("quota")),
        Generator::Poddisruptionbudget(args) => (args.object()?, args.write, Some("poddisruptionbudgets")),
        Generator::Priorityclass(args) => (args.object(), args.write, Some("priorityclass")),
    };
    let created = create(session, Manifest { source: String::new(), object }, &write, "kubectl-create").await;
    created.map_err(|failure| match (failure, what) {
        (Failure::Api(status), Some(what)) => Failure::usage(format!("failed to create {what}: {}", status.message)),
        (failure, _) => failure,
    })
}
