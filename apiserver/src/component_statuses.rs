//! The health of the control plane's parts, asked for at the moment: the ports where upstream's components say how they are, and
//! the store. Entry point: [`all`].
//!
//! A component that serves no such port, as `--secure-port=0` has it, shows as unhealthy, as it does upstream.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ComponentCondition, ComponentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::ApiServer;

/// How long a component may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of its answer is shown.
const ANSWER_LIMIT: usize = 10 * 1024;
/// Names and ports, in the order of the list.
const COMPONENTS: [(&str, u16); 2] = [("controller-manager", 10_257), ("scheduler", 10_259)];
const STORE: &str = "etcd-0";

/// All of them by name.
pub async fn all(server: &ApiServer) -> Vec<ComponentStatus> {
    let [(controllers, port), (scheduler, other)] = COMPONENTS;
    let (first, second) = tokio::join!(ask(port), ask(other));
    let store = server.storage.revision().await.map(|_| "ok".to_owned()).map_err(|error| error.to_string());
    vec![status(controllers, first), status(STORE, store), status(scheduler, second)]
}

fn status(name: &str, answer: Result<String, String>) -> ComponentStatus {
    let (healthy, message) = match answer {
        Ok(message) => ("True", message),
        Err(message) => ("False", message),
    };
    let condition = ComponentCondition {
        type_: "Healthy".to_owned(),
        status: healthy.to_owned(),
        message: Some(message),
        error: None,
    };
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ComponentStatus { metadata, conditions: Some(vec![condition]) }
}

/// What a component says of itself; the error is why it says nothing good.
async fn ask(port: u16) -> Result<String, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |why: String| format!("Get \"https://{address}/healthz\": {why}");
    match timeout(PATIENCE, exchange(address)).await {
        Ok(Ok((StatusCode::OK, text))) => Ok(text),
        Ok(Ok((code, text))) => Err(format!("HTTP probe failed with statuscode: {}: {text}", code.as_u16())),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("context deadline exceeded".to_owned())),
    }
}

async fn exchange(address: SocketAddr) -> Result<(StatusCode, String), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        _ => format!("dial tcp {address}: {error}"),
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/healthz").header(header::HOST, address.to_string()).body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status();
    let text = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await.map_err(|error| error.to_string())?;
    Ok((code, String::from_utf8_lossy(&text.to_bytes()).into_owned()))
}
