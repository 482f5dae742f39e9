//! `kubectl port-forward`: local ports that lead to ports of a pod.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::logs::one_pod;
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;
use crate::targets;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// POD or TYPE/NAME
    target: String,
    /// LOCAL:REMOTE, PORT for both, :REMOTE for any free local port
    #[arg(required = true)]
    ports: Vec<String>,
    /// Addresses to listen at, or localhost
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
}

/// Forwards until the user ends it.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let target = targets::one(session, std::slice::from_ref(&args.target), "pods").await?;
    let service = if target.resource.plural == "services" { target.get(session).await? } else { Value::Null };
    let pod = one_pod(session, &target).await?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if phase != "Running" {
        return Err(Failure::usage(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let mut forwarding = JoinSet::new();
    for port in &args.ports {
        let (local, asked) = parse(port)?;
        let remote = if service.is_null() { asked } else { pod_port(&service, &pod, asked)? };
        for (listener, shown) in listen(&args.address, local).await? {
            let local = listener.local_addr()?.port();
            output::line(&format!("Forwarding from {shown}:{local} -> {remote}"))?;
            forwarding.spawn(serve(listener, local, pods.clone(), name.clone(), remote));
        }
    }
    match forwarding.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(_)) | None => Ok(()),
    }
}

/// `8080:80`, `80`, `:80`.
fn parse(text: &str) -> Result<(u16, u16)> {
    let wrong = || Failure::usage(format!("error parsing port forward: invalid port format '{text}'"));
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    match text.split_once(':') {
        None => number(text).map(|port| (port, port)),
        Some(("", remote)) => Ok((0, number(remote)?)),
        Some((local, remote)) => Ok((number(local)?, number(remote)?)),
    }
}

/// The pod's port behind a Service's.
fn pod_port(service: &Value, pod: &Value, port: u16) -> Result<u16> {
    let ports = service["spec"]["ports"].as_array();
    let Some(entry) = ports.into_iter().flatten().find(|entry| entry["port"] == port) else {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Failure::usage(format!("Service {name} does not have a service port {port}")));
    };
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(target) = entry["targetPort"].as_str() {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let mut named = containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
        let found = named.find(|port| port["name"] == *target).and_then(|port| number(&port["containerPort"]));
        return found.ok_or_else(|| Failure::usage(format!("Pod does not have a named port '{target}'")));
    }
    Ok(number(&entry["targetPort"]).filter(|target| *target != 0).unwrap_or(port))
}

/// Listens at each address; of localhost's two one is enough.
async fn listen(addresses: &[String], port: u16) -> Result<Vec<(TcpListener, String)>> {
    let mut listeners = Vec::new();
    for address in addresses {
        if address != "localhost" {
            let shown = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            listeners.push((TcpListener::bind((address.as_str(), port)).await?, shown));
            continue;
        }
        let first = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
            Failure::usage(format!("unable to listen on any of the requested ports: [{port}]: {error}"))
        })?;
        let port = first.local_addr()?.port();
        listeners.push((first, "127.0.0.1".to_owned()));
        if let Ok(second) = TcpListener::bind(("::1", port)).await {
            listeners.push((second, "[::1]".to_owned()));
        }
    }
    Ok(listeners)
}

/// Each connection gets a stream of its own to the pod.
async fn serve(listener: TcpListener, local: u16, pods: Api<Pod>, pod: String, remote: u16) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await?;
        output::line(&format!("Handling connection for {local}"))?;
        let (pods, pod) = (pods.clone(), pod.clone());
        connections.spawn(async move {
            if let Err(why) = forward(connection, &pods, &pod, remote).await {
                eprintln!("an error occurred forwarding {local} -> {remote}: {why}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    mut connection: TcpStream,
    pods: &Api<Pod>,
    pod: &str,
    remote: u16,
) -> std::result::Result<(), String> {
    let mut forwarder = pods.portforward(pod, &[remote]).await.map_err(|error| error.to_string())?;
    let mut stream = forwarder.take_stream(remote).ok_or("the server opened no stream")?;
    let refused = forwarder.take_error(remote);
    let copied = copy_bidirectional(&mut connection, &mut stream).await;
    drop(stream);
    if let Some(refused) = refused
        && let Some(why) = refused.await
    {
        return Err(why);
    }
    copied.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_read_and_found_behind_services() {
        assert_eq!(parse("8080:80").unwrap(), (8080, 80));
        assert_eq!(parse("80").unwrap(), (80, 80));
        assert_eq!(parse(":80").unwrap(), (0, 80));
        assert!(parse("a:80").is_err() && parse("80:").is_err());
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "targetPort": "web"}, {"port": 81, "targetPort": 8081}]}});
        let pod = json!({"spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]}});
        assert_eq!(pod_port(&service, &pod, 80).unwrap(), 8080);
        assert_eq!(pod_port(&service, &pod, 81).unwrap(), 8081);
        assert!(pod_port(&service, &pod, 82).is_err());
    }
}
