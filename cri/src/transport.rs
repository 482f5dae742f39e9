//! How CRI's calls travel: over a unix socket, or straight to services in the same process.
//!
//! Both are a [`Transport`], which every generated client takes.

use std::future::Future;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;
use tower::{Service as _, ServiceExt as _};

/// Carries calls to a runtime; clones share the connection.
pub type Transport = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// Not `unix:///…`, and no absolute path either.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a socket address such as unix:///run/kubelab/runtime.sock")]
pub struct AddressError(String);

/// The path in `unix:///path`, or a plain absolute path.
pub fn socket_path(address: &str) -> Result<PathBuf, AddressError> {
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(AddressError(address.to_owned())) }
}

/// A connection to a runtime's socket; made when first used, and made again when it breaks. Must be called inside a tokio runtime.
pub fn connect(address: &str) -> Result<Transport, AddressError> {
    let path = socket_path(address)?;
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://runtime.invalid").connect_with_connector_lazy(connector);
    Ok(BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(error.into()))))
}

/// Calls these services in the caller's own task: the same messages, encoded and decoded, and no connection. Once `ended` is ready, all
/// calls fail as they do when a connection is lost, those under way among them.
pub fn in_process<F>(routes: Routes, ended: impl Fn() -> F + Clone + Send + Sync + 'static) -> Transport
where
    F: Future<Output = ()> + Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(move |request| {
        let (mut routes, ended) = (routes.clone(), ended());
        async move {
            tokio::select! {
                biased;
                () = ended => Err(Status::unavailable("the runtime has ended")),
                answer = routes.call(request) => answer.map_err(|never| match never {}),
            }
        }
    }))
}
