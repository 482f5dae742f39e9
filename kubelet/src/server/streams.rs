//! exec, attach and port-forward: the runtime speaks the protocol, the kubelet only connects the two ends.
//!
//! Entry: [`exec`], [`attach`], [`port_forward`]. Invariant: no byte of a stream is looked at here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Refusal, find_pod};
use crate::shared::Shared;

type Answer = Result<Response, Refusal>;

/// Which streams a client asked for, whichever of the two spellings it uses.
struct Options {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    ports: Vec<i32>,
}

impl Options {
    fn of(uri: &Uri) -> Self {
        let pairs: Vec<(String, String)> = parse_query(uri.query().unwrap_or_default());
        let on = |names: [&str; 2]| {
            pairs.iter().any(|(key, value)| names.contains(&key.as_str()) && matches!(value.as_str(), "1" | "true"))
        };
        let all = |name: &str| pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect();
        let ports: Vec<String> =
            pairs.iter().filter(|(k, _)| k == "port" || k == "ports").map(|(_, v)| v.clone()).collect();
        Self {
            command: all("command"),
            stdin: on(["stdin", "input"]),
            stdout: on(["stdout", "output"]),
            stderr: on(["stderr", "error"]),
            tty: on(["tty", "tty"]),
            ports: ports.iter().flat_map(|list| list.split(',')).filter_map(|port| port.parse().ok()).collect(),
        }
    }
}

/// The pairs of a query, decoded, in order.
pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a command in a container.
pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let id = running_container(&shared, &namespace, &pod, &container).await?;
    let options = Options::of(request.uri());
    let call = ExecRequest {
        container_id: id,
        cmd: options.command,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr && !options.tty,
        audit_request_id: String::new(),
    };
    let answer = shared.runtime.runtime.clone().exec(call).await.map_err(runtime_error)?;
    splice(&answer.into_inner().url, request).await
}

/// The same for a client that names the uid too.
pub(super) async fn exec_with_uid(
    state: State<Arc<Shared>>,
    Path((namespace, pod, _uid, container)): Path<(String, String, String, String)>,
    request: Request,
) -> Answer {
    exec(state, Path((namespace, pod, container)), request).await
}

/// Connects to a container's main process.
pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let id = running_container(&shared, &namespace, &pod, &container).await?;
    let options = Options::of(request.uri());
    let found = find_pod(&shared, &namespace, &pod)?;
    let members = crate::members::members(&found);
    let tty = members.iter().any(|member| member.name() == container && member.container.tty.unwrap_or(false));
    let call = AttachRequest {
        container_id: id,
        stdin: options.stdin,
        tty,
        stdout: options.stdout,
        stderr: options.stderr && !tty,
        audit_request_id: String::new(),
    };
    let answer = shared.runtime.runtime.clone().attach(call).await.map_err(runtime_error)?;
    splice(&answer.into_inner().url, request).await
}

/// The same for a client that names the uid too.
pub(super) async fn attach_with_uid(
    state: State<Arc<Shared>>,
    Path((namespace, pod, _uid, container)): Path<(String, String, String, String)>,
    request: Request,
) -> Answer {
    attach(state, Path((namespace, pod, container)), request).await
}

/// Connects to ports inside a pod.
pub(super) async fn port_forward(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let found = find_pod(&shared, &namespace, &pod)?;
    let uid = found.metadata.uid.as_deref().unwrap_or_default();
    let view = shared.runtime.observe(uid).await.map_err(runtime_error)?;
    let gone = || Refusal(StatusCode::NOT_FOUND, format!("not able to find sandbox of pod \"{pod}\""));
    let pod_sandbox_id = view.ready_sandbox().ok_or_else(gone)?.id.clone();
    let call = PortForwardRequest { pod_sandbox_id, port: Options::of(request.uri()).ports };
    let answer = shared.runtime.runtime.clone().port_forward(call).await.map_err(runtime_error)?;
    splice(&answer.into_inner().url, request).await
}

/// The same for a client that names the uid too.
pub(super) async fn port_forward_with_uid(
    state: State<Arc<Shared>>,
    Path((namespace, pod, _uid)): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    port_forward(state, Path((namespace, pod)), request).await
}

fn runtime_error(status: tonic::Status) -> Refusal {
    let code = match status.code() {
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        tonic::Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal(code, status.message().to_owned())
}

async fn running_container(shared: &Shared, namespace: &str, pod: &str, name: &str) -> Result<String, Refusal> {
    let found = find_pod(shared, namespace, pod)?;
    let uid = found.metadata.uid.as_deref().unwrap_or_default();
    let view = shared.runtime.observe(uid).await.map_err(runtime_error)?;
    let running = view.newest(name).filter(|container| container.is_running());
    let missing = || Refusal(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")"));
    running.map(|container| container.id.clone()).ok_or_else(missing)
}

/// Passes the client's upgrade on to the runtime and then every byte both ways.
async fn splice(url: &str, mut request: Request) -> Answer {
    let bad = |detail: String| Refusal(StatusCode::BAD_GATEWAY, format!("error dialing the runtime: {detail}"));
    let target: Uri = url.parse().map_err(|error| bad(format!("{url}: {error}")))?;
    let (host, port) = (target.host().unwrap_or("127.0.0.1"), target.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host, port)).await.map_err(|error| bad(error.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| bad(error.to_string()))?;
    tokio::spawn(connection.with_upgrades());
    let path = target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut onward = hyper::Request::builder().method(request.method().clone()).uri(path);
    if let Some(headers) = onward.headers_mut() {
        *headers = end_to_end(request.headers());
        let authority = format!("{host}:{port}").parse().map_err(|_| bad(url.to_owned()))?;
        headers.insert(header::HOST, authority);
    }
    let onward = onward.body(Body::empty()).map_err(|error| bad(error.to_string()))?;
    let client_side = hyper::upgrade::on(&mut request);
    let mut answer = sender.send_request(onward).await.map_err(|error| bad(error.to_string()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| bad(error.to_string()))?.to_bytes();
        return Ok(Response::from_parts(parts, Body::from(body)));
    }
    let mut back = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    if let Some(headers) = back.headers_mut() {
        *headers = answer.headers().clone();
    }
    let runtime_side = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        if let (Ok(client), Ok(runtime)) = tokio::join!(client_side, runtime_side) {
            let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
            // Either end may simply go away.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut runtime).await;
        }
    });
    back.body(Body::empty()).map_err(|error| bad(error.to_string()))
}

/// The headers that concern the two ends of a stream.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &header::HeaderName| {
        let text = name.as_str();
        text == "connection" || text == "upgrade" || text.starts_with("sec-websocket") || text.starts_with("x-stream")
    };
    headers.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_both_spellings() {
        let uri: Uri = "/exec/ns/p/c?command=sh&command=-c&command=echo%20%24A+b&input=1&stdout=true&tty=0"
            .parse()
            .expect("a uri");
        let options = Options::of(&uri);
        assert_eq!(options.command, ["sh", "-c", "echo $A b"]);
        assert!(options.stdin && options.stdout && !options.stderr && !options.tty);
    }
}
