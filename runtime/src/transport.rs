//! Where a runtime serves CRI: at a unix socket. How calls get there is in [`cri::transport`].

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use cri::images::image_loader_server::{ImageLoader, ImageLoaderServer};
use cri::v1::image_service_server::{ImageService, ImageServiceServer};
use cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

/// The largest message: a list of thousands of containers.
const MESSAGE: usize = 64 << 20;

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The socket could not be made.
    #[error("cannot listen on {0}")]
    Listen(PathBuf, #[source] io::Error),
    /// Another process serves this socket.
    #[error("{0} is in use by another runtime")]
    InUse(PathBuf),
    /// Not `unix:///…`.
    #[error(transparent)]
    Address(#[from] cri::transport::AddressError),
    /// Serving ended.
    #[error("serving CRI")]
    Serve(#[source] tonic::transport::Error),
}

/// A bound unix socket, removed when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    _file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nobody can act on a failure here; the next start removes a stale socket.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds `unix:///path` (or a plain path), taking over a socket that nobody serves any more.
    pub async fn bind(address: &str) -> Result<Self, TransportError> {
        let path = cri::transport::socket_path(address)?;
        if UnixStream::connect(&path).await.is_ok() {
            return Err(TransportError::InUse(path));
        }
        let bind = || -> io::Result<UnixListener> {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            if std::fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_socket()) {
                std::fs::remove_file(&path)?;
            }
            let socket = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(socket)
        };
        match bind() {
            Ok(socket) => Ok(Self { socket, _file: SocketFile(path) }),
            Err(error) => Err(TransportError::Listen(path, error)),
        }
    }
}

/// All services of a runtime.
pub fn routes<S: RuntimeService + ImageService + ImageLoader>(service: Arc<S>) -> Routes {
    Routes::new(RuntimeServiceServer::from_arc(service.clone()).max_decoding_message_size(MESSAGE))
        .add_service(ImageServiceServer::from_arc(service.clone()).max_decoding_message_size(MESSAGE))
        .add_service(ImageLoaderServer::from_arc(service))
}

/// Serves until the token is cancelled.
pub async fn serve(routes: Routes, listener: Listener, token: CancellationToken) -> Result<(), TransportError> {
    let Listener { socket, _file } = listener;
    let stop = token.clone();
    let server = Server::builder().add_routes(routes).serve_with_incoming_shutdown(
        UnixListenerStream::new(socket),
        async move {
            stop.cancelled().await;
        },
    );
    // Event streams have no end of their own: a graceful shutdown would wait for them for ever.
    tokio::select! {
        biased;
        () = token.cancelled() => Ok(()),
        served = server => served.map_err(TransportError::Serve),
    }
}
