//! Kubernetes' channels over a WebSocket: the first byte of each binary message names the stream. Pure.

use axum::extract::ws::Message;
use serde_json::json;

/// Input of the command.
pub const STDIN: u8 = 0;
/// Its output.
pub const STDOUT: u8 = 1;
/// Its other output.
pub const STDERR: u8 = 2;
/// How it ended.
pub const ERROR: u8 = 3;
/// The terminal's size.
pub const RESIZE: u8 = 4;
/// From v5 on: the stream named by the next byte is at its end.
pub const CLOSE: u8 = 255;

/// Which form of the channels a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `channel.k8s.io`, and v2 and v3 of SPDY: the end is told in plain text.
    V1,
    /// `v4.channel.k8s.io`: the end is told as a Status.
    V4,
    /// `v5.channel.k8s.io`: streams can be closed one by one.
    V5,
}

impl Protocol {
    /// All names, the best first.
    pub const NAMES: [&'static str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];

    /// The names that clients of SPDY offer, the best first: the older ones tell the end in plain text, too.
    pub const SPDY_NAMES: [&'static str; 4] =
        ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

    /// What was agreed on.
    pub fn of(name: Option<&str>) -> Self {
        match name {
            Some("v5.channel.k8s.io") => Self::V5,
            Some("v3.channel.k8s.io" | "v2.channel.k8s.io" | "channel.k8s.io") | None => Self::V1,
            Some(_) => Self::V4,
        }
    }

    /// Tells how a command ended.
    pub fn end(self, outcome: &Result<i32, String>) -> Message {
        let text = match (self, outcome) {
            (Self::V1, Ok(0)) => String::new(),
            (Self::V1, Ok(code)) => format!("command terminated with exit code {code}"),
            (Self::V1, Err(complaint)) => complaint.clone(),
            (Self::V4 | Self::V5, Ok(0)) => json!({"metadata": {}, "status": "Success"}).to_string(),
            (Self::V4 | Self::V5, Ok(code)) => non_zero(*code),
            (Self::V4 | Self::V5, Err(complaint)) => failure(complaint),
        };
        message(ERROR, text.as_bytes())
    }
}

fn non_zero(code: i32) -> String {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
    .to_string()
}

fn failure(complaint: &str) -> String {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: error executing command in container: {complaint}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": format!("error executing command in container: {complaint}")}]},
        "code": 500,
    })
    .to_string()
}

/// A message on a channel.
pub fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(data.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.into())
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Input.
    Stdin(Vec<u8>),
    /// No more input.
    StdinEnds,
    /// A new size of the terminal.
    Resize(Vec<u8>),
    /// It hangs up.
    Ends,
    /// Nothing that concerns us.
    Nothing,
}

/// Reads a message of a client.
pub fn said(protocol: Protocol, message: Message) -> Said {
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return Said::Ends,
        Message::Text(_) | Message::Ping(_) | Message::Pong(_) => return Said::Nothing,
    };
    match bytes.split_first() {
        Some((&STDIN, data)) => Said::Stdin(data.to_vec()),
        Some((&RESIZE, data)) => Said::Resize(data.to_vec()),
        Some((&CLOSE, [STDIN])) if protocol == Protocol::V5 => Said::StdinEnds,
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_kubernetes_does() {
        let text = |message: Message| match message {
            Message::Binary(bytes) => String::from_utf8(bytes[1..].to_vec()).expect("text"),
            other => panic!("{other:?}"),
        };
        let value =
            |outcome| serde_json::from_str::<serde_json::Value>(&text(Protocol::V5.end(&outcome))).expect("JSON");
        assert_eq!(value(Ok(0)), json!({"metadata": {}, "status": "Success"}));
        let failed = value(Ok(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(value(Err("no".to_owned()))["reason"], "InternalError");
        assert_eq!(text(Protocol::V1.end(&Ok(3))), "command terminated with exit code 3");
    }

    #[test]
    fn only_v5_closes_streams() {
        let close = || Message::Binary(vec![CLOSE, STDIN].into());
        assert_eq!(said(Protocol::V5, close()), Said::StdinEnds);
        assert_eq!(said(Protocol::V4, close()), Said::Nothing);
        assert_eq!(said(Protocol::V4, message(STDIN, b"x")), Said::Stdin(b"x".to_vec()));
    }
}
