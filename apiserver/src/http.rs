//! Every layer and route of the server on one screen. Entry points: [`router`], and [`in_process`] for callers in this process.
//!
//! There are no routes in axum's sense: what a path means depends on the kinds that are served at the moment, so one handler reads
//! each request ([`request_info`]), finds out who asks and whether they may, and calls the verb's function.

pub mod answer;
pub mod body;
pub mod discovery;
pub mod field_numbers;
pub mod handlers;
pub mod health;
pub mod media;
pub mod node_proxy;
pub mod openapi;
pub mod options;
pub mod query;
pub mod request_info;
pub mod watch_socket;
pub mod watch_stream;

use std::sync::Arc;

use api::ApiError;
use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::ApiServer;
use crate::authn::User;
use media::Accepted;

/// The server's requests, from outermost to innermost: large answers are compressed for clients that accept that, a panic becomes
/// a 500, then [`handlers::serve`].
pub fn router(server: Arc<ApiServer>) -> Router {
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    Router::new()
        .fallback(serve)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(compression.compress_when(answer::WorthCompressing))
        .with_state(server)
}

/// A way into the server for code in the same process, which is `user` without having to prove it. Nothing that comes from the
/// network can get here.
pub fn in_process(server: Arc<ApiServer>, user: User) -> Router {
    router(server).layer(Extension(InProcess(user)))
}

/// Who a request from this process is from.
#[derive(Clone, Debug)]
pub struct InProcess(pub User);

async fn serve(State(server): State<Arc<ApiServer>>, request: Request) -> Response {
    handlers::serve(server, request).await
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    answer::error(&ApiError::internal("the request handler panicked"), Accepted::JSON, None)
}
