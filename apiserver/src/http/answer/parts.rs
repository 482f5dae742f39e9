//! A body whose text lies in several places, and is sent from there. Entry point: [`Parts`].
//!
//! Invariant: its length is known from the beginning, so that it goes out with a Content-Length.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// One text after the other.
pub struct Parts<const N: usize>([Bytes; N]);

impl<const N: usize> Parts<N> {
    /// A body of these.
    pub fn new(parts: [Bytes; N]) -> Self {
        Self(parts)
    }
}

impl<const N: usize> Body for Parts<N> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.iter_mut().find(|part| !part.is_empty());
        Poll::Ready(next.map(|part| Ok(Frame::data(std::mem::take(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn parts_follow_each_other() {
        let parts = Parts::new([Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"bc")]);
        assert_eq!((parts.size_hint().exact(), parts.is_end_stream()), (Some(3), false));
        assert_eq!(parts.collect().await.expect("nothing fails").to_bytes(), "abc");
    }
}
