//! `kubectl expose`: a Service in front of the pods of a workload, a Service or a pod.

use serde_json::{Value, json};

use super::create::{Write, create_as};
use super::run::pairs;
use crate::failure::{Failure, Result};
use crate::manifest::{Files, Manifest};
use crate::session::Session;
use crate::targets::{self, Selection, Target};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME or TYPE/NAME
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The Service's name
    #[arg(long)]
    name: Option<String>,
    /// The Service's port
    #[arg(long)]
    port: Option<u16>,
    /// The pods' port, by number or name
    #[arg(long)]
    target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long)]
    protocol: Option<String>,
    /// ClusterIP, NodePort or LoadBalancer
    #[arg(long = "type")]
    kind: Option<String>,
    /// The Service's cluster IP, or None
    #[arg(long)]
    cluster_ip: Option<String>,
    /// Labels of the pods, instead of those that the object selects
    #[arg(long)]
    selector: Option<String>,
    /// Labels of the Service: KEY=VALUE,...
    #[arg(short, long)]
    labels: Option<String>,
    #[command(flatten)]
    write: Write,
}

/// Makes a Service for each object.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let targets = targets::resolve(session, &args.args, &Selection::default(), false, &args.files).await?;
    let mut failures = Vec::new();
    for target in &targets {
        let result = async {
            let object = service(&args, target, &target.get(session).await?)?;
            create_as(session, Manifest { source: String::new(), object }, &args.write, "kubectl-expose", "exposed")
                .await
        };
        failures.extend(result.await.err());
    }
    Failure::join(failures)
}

fn service(args: &Args, target: &Target<'_>, object: &Value) -> Result<Value> {
    let name = args.name.clone().unwrap_or_else(|| target.name.clone());
    let selector = match &args.selector {
        Some(labels) => pairs(labels.split(','), "label")?,
        None => selected(target, object)?,
    };
    let labels = match &args.labels {
        Some(labels) => pairs(labels.split(','), "label")?,
        None => object["metadata"]["labels"].clone(),
    };
    let mut metadata = json!({"name": name, "namespace": target.namespace});
    if !labels.is_null() {
        metadata["labels"] = labels;
    }
    let mut spec = json!({"ports": ports(args, object)?, "selector": selector});
    for (field, value) in [("type", &args.kind), ("clusterIP", &args.cluster_ip)] {
        if let Some(value) = value {
            spec[field] = value.clone().into();
        }
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

/// The labels of the pods behind an object.
fn selected(target: &Target<'_>, object: &Value) -> Result<Value> {
    let selector = &object["spec"]["selector"];
    let labels = match target.resource.plural.as_str() {
        "pods" => object["metadata"]["labels"].clone(),
        "deployments" | "replicasets" if !selector["matchExpressions"].is_null() => {
            return Err(Failure::usage(
                "couldn't convert expressions - \"matchExpressions\" to map-based selector format",
            ));
        }
        "deployments" | "replicasets" => selector["matchLabels"].clone(),
        "services" | "replicationcontrollers" => selector.clone(),
        _ => return Err(Failure::usage(format!("cannot expose a {}", target.resource.kind))),
    };
    match labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        true => Ok(labels),
        false if target.resource.plural == "pods" => Err(Failure::usage(
            "couldn't retrieve selectors via --selector flag or introspection: the pod has no labels and cannot be exposed",
        )),
        false => Err(Failure::usage(
            "couldn't retrieve selectors via --selector flag or introspection: no selectors specified",
        )),
    }
}

/// The port of the flag, or all that the object's containers (or the Service) have.
fn ports(args: &Args, object: &Value) -> Result<Vec<Value>> {
    let number = |port: &str| port.parse::<u16>().map_or_else(|_| port.into(), Value::from);
    let own: Vec<(u64, Option<&str>)> = {
        let spec =
            if object["spec"]["template"].is_null() { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        let of_containers = spec["containers"].as_array().into_iter().flatten();
        let of_containers = of_containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
        let of_service = object["spec"]["ports"].as_array().into_iter().flatten();
        let ports = of_containers
            .map(|port| (port, &port["containerPort"]))
            .chain(of_service.map(|port| (port, &port["port"])));
        ports.filter_map(|(port, number)| Some((number.as_u64()?, port["protocol"].as_str()))).collect()
    };
    let wanted: Vec<u64> = match args.port {
        Some(port) => vec![u64::from(port)],
        None if own.is_empty() => {
            return Err(Failure::usage("couldn't find port via --port flag or introspection"));
        }
        None => own.iter().map(|(port, _)| *port).collect(),
    };
    let many = wanted.len() > 1;
    let port = |(index, port): (usize, u64)| {
        let declared = own.iter().find(|(own, _)| *own == port).and_then(|(_, protocol)| *protocol);
        let protocol = args.protocol.as_deref().or(declared).unwrap_or("TCP");
        let target = args.target_port.as_ref().map_or_else(|| port.into(), |target| number(target));
        let mut entry = json!({"port": port, "protocol": protocol, "targetPort": target});
        if many {
            entry["name"] = format!("port-{}", index + 1).into();
        }
        entry
    };
    Ok(wanted.into_iter().enumerate().map(port).collect())
}
