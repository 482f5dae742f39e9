//! A connection whose client has to begin in time. hyper has time-outs for the head of a request once it has begun, but none for
//! a client that says nothing at all.
//!
//! Entry points: [`Prompt::new`], [`Requests::begin`], [`counted`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The bytes with which HTTP/2 begins.
const PREFACE: usize = 24;

/// What has to come in time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// The preface of HTTP/2; from then on there are pings.
    Preface(Duration),
    /// The next request, as long as none is being answered.
    Requests(Duration),
}

/// See the module.
pub(super) struct Prompt<S> {
    stream: S,
    within: Duration,
    /// How many bytes of the preface are missing; none of a connection that has none.
    preface: usize,
    /// Requests that are being answered; not counted where only the preface matters.
    requests: Option<Requests>,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// How many requests of a connection are being answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Arc<AtomicUsize>);

/// One of them, while it lives.
#[derive(Debug)]
pub(super) struct Counted(Requests);

impl Requests {
    /// A request has come.
    pub(super) fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    fn are_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Prompt<S> {
    /// The connection under a rule, and the count of its requests.
    pub(super) fn new(stream: S, rule: Rule) -> (Self, Requests) {
        let requests = Requests::default();
        let (within, preface, counts) = match rule {
            Rule::Preface(within) => (within, PREFACE, None),
            Rule::Requests(within) => (within, 0, Some(requests.clone())),
        };
        (Self { stream, within, preface, requests: counts, deadline: None }, requests)
    }

    /// Whether the client is to say something now.
    fn is_waiting(&self) -> bool {
        self.preface > 0 || self.requests.as_ref().is_some_and(Requests::are_none)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            let count = buffer.filled().len() - before;
            this.preface = this.preface.saturating_sub(count);
            // Half a preface does not buy more time.
            if this.preface == 0 {
                this.deadline = None;
            }
        } else if this.is_waiting() {
            let within = this.within;
            let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(within)));
            if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        } else {
            this.deadline = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The answer counts until its body has been sent; an upgraded connection, which is no HTTP any more, counts for ever.
pub(super) fn counted(response: Response, counted: Counted) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        counted.0.0.fetch_add(1, Ordering::Relaxed);
        return response;
    }
    response.map(|body| Body::new(CountedBody { body, _counted: counted }))
}

struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
