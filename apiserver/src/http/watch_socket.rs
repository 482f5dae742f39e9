//! A watch over WebSocket, as scripts in browsers ask for it: a message for each event. Entry point: [`response`].
//!
//! What the client sends is not looked at; the watch ends when the client goes, and the connection when the watch does.
//! Reference: <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use std::convert::Infallible;

use api::ApiError;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};

use super::media::Format;

/// Whether a request is one for a WebSocket.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let words = text(CONNECTION).to_ascii_lowercase();
    text(UPGRADE).eq_ignore_ascii_case("websocket") && words.split(',').any(|word| word.trim() == "upgrade")
}

/// The answer that turns the connection into one for these frames.
pub async fn response(
    parts: &Parts,
    frames: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
    format: Format,
) -> Result<Response, ApiError> {
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts.clone(), &()).await;
    let upgrade = upgrade.map_err(|refused| ApiError::bad_request(refused.body_text()))?;
    Ok(upgrade.on_upgrade(move |socket| send(socket, frames, format)))
}

async fn send(mut socket: WebSocket, frames: impl Stream<Item = Result<Bytes, Infallible>>, format: Format) {
    let mut frames = std::pin::pin!(frames);
    loop {
        tokio::select! {
            biased;
            frame = frames.next() => {
                let Some(Ok(frame)) = frame else { break };
                for message in messages(frame, format) {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    // Whether the client hears of the end or not, it has come.
    let _ = socket.send(Message::Close(None)).await;
}

/// One message for each of the events that were gathered: a line of JSON, or what stands behind a length.
fn messages(mut frames: Bytes, format: Format) -> Vec<Message> {
    let mut messages = Vec::new();
    while !frames.is_empty() {
        let message = match format {
            Format::Protobuf if frames.len() >= 4 => {
                let length = frames.get_u32() as usize;
                Some(Message::Binary(frames.split_to(length.min(frames.len()))))
            }
            Format::Protobuf => None,
            Format::Json | Format::PrettyJson | Format::Yaml => {
                let end = frames.iter().position(|byte| *byte == b'\n').map_or(frames.len(), |at| at + 1);
                Utf8Bytes::try_from(frames.split_to(end)).ok().map(Message::Text)
            }
        };
        let Some(message) = message else { break };
        messages.push(message);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_events_are_messages_of_their_own() {
        let lines = messages(Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n"), Format::Json);
        assert_eq!(lines, [Message::text("{\"a\":1}\n"), Message::text("{\"b\":2}\n")]);
        let parts = messages(Bytes::from_static(b"\0\0\0\x02ab\0\0\0\x01c"), Format::Protobuf);
        assert_eq!(parts, [Message::binary("ab"), Message::binary("c")]);
        assert_eq!(messages(Bytes::from_static(b"\0\0"), Format::Protobuf), []);
    }

    #[test]
    fn who_asks_for_a_socket() {
        let table =
            [("websocket", "keep-alive, Upgrade", true), ("SPDY/3.1", "Upgrade", false), ("websocket", "", false)];
        for (upgrade, connection, expected) in table {
            let value = |text: &'static str| axum::http::HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([(UPGRADE, value(upgrade)), (CONNECTION, value(connection))]);
            assert_eq!(is_asked_for(&headers), expected, "{upgrade} {connection}");
        }
    }
}
