//! `kubectl create service`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Write, named};
use crate::failure::{Failure, Result};

/// The types.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Create a ClusterIP service
    Clusterip(Ports),
    /// Create a NodePort service
    Nodeport(Ports),
    /// Create a LoadBalancer service
    Loadbalancer(Ports),
    /// Create an ExternalName service
    Externalname(External),
}

/// Flags of services with ports.
#[derive(Debug, clap::Args)]
pub struct Ports {
    name: String,
    /// PORT or PORT:TARGETPORT; may be repeated
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    /// With nodeport: the nodes' port
    #[arg(long)]
    node_port: Option<u16>,
    /// With clusterip: the address, or None
    #[arg(long)]
    clusterip: Option<String>,
    #[command(flatten)]
    write: Write,
}

/// Flags of `externalname`.
#[derive(Debug, clap::Args)]
pub struct External {
    name: String,
    /// The name that it stands for
    #[arg(long)]
    external_name: String,
    /// PORT or PORT:TARGETPORT; may be repeated
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    #[command(flatten)]
    write: Write,
}

impl Service {
    /// How messages call it.
    pub fn named(&self) -> &'static str {
        match self {
            Self::Clusterip(_) => "ClusterIP service",
            Self::Nodeport(_) => "NodePort service",
            Self::Loadbalancer(_) => "LoadBalancer service",
            Self::Externalname(_) => "ExternalName service",
        }
    }

    /// The service; it selects the pods with its name as label `app`.
    pub fn object(&self) -> Result<Value> {
        let (name, tcp, kind) = match self {
            Self::Clusterip(args) => (&args.name, &args.tcp, "ClusterIP"),
            Self::Nodeport(args) => (&args.name, &args.tcp, "NodePort"),
            Self::Loadbalancer(args) => (&args.name, &args.tcp, "LoadBalancer"),
            Self::Externalname(args) => (&args.name, &args.tcp, "ExternalName"),
        };
        let labels = json!({"app": name});
        let mut object = named("v1", "Service", name);
        object["metadata"]["labels"] = labels.clone();
        object["spec"] = json!({"selector": labels, "type": kind});
        object["status"] = json!({"loadBalancer": {}});
        let mut ports = tcp.iter().map(|port| parse(port)).collect::<Result<Vec<Value>>>()?;
        let headless = matches!(self, Self::Clusterip(args) if args.clusterip.as_deref() == Some("None"));
        if ports.is_empty() && !headless && kind != "ExternalName" {
            return Err(Failure::usage("at least one tcp port specifier must be provided"));
        }
        match self {
            Self::Externalname(args) => object["spec"]["externalName"] = args.external_name.clone().into(),
            Self::Nodeport(Ports { node_port: Some(port), .. }) => ports[0]["nodePort"] = (*port).into(),
            Self::Clusterip(Ports { clusterip: Some(address), .. }) => {
                object["spec"]["clusterIP"] = address.clone().into()
            }
            _ => {}
        }
        if !ports.is_empty() {
            object["spec"]["ports"] = ports.into();
        }
        Ok(object)
    }

    /// How it is written.
    pub fn into_write(self) -> Write {
        match self {
            Self::Clusterip(args) | Self::Nodeport(args) | Self::Loadbalancer(args) => args.write,
            Self::Externalname(args) => args.write,
        }
    }
}

/// `80` or `80:8080` or `80:http`.
fn parse(text: &str) -> Result<Value> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let port = number(port).ok_or_else(|| Failure::usage(format!("invalid port format: {text}")))?;
    let target = number(target).map_or_else(|| Value::from(target), Value::from);
    Ok(json!({"name": text.replace(':', "-"), "port": port, "protocol": "TCP", "targetPort": target}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_their_text_as_name() {
        assert_eq!(parse("80").unwrap(), json!({"name": "80", "port": 80, "protocol": "TCP", "targetPort": 80}));
        assert_eq!(parse("80:http").unwrap()["targetPort"], "http");
        assert_eq!(parse("80:http").unwrap()["name"], "80-http");
        assert!(parse("x").is_err() && parse("0").is_err());
    }
}
