//! The frames of SPDY/3.1 as bytes. Pure.
//!
//! Entry: [`Frame::decode`] and [`Frame::encode`]. Source: "SPDY Protocol - Draft 3.1" (chromium.org), section 2.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};

use super::headers::{self, Headers};

const VERSION: u16 = 3;
const HEADER: usize = 8;
/// The largest frame that is read; clients' pieces of data are far smaller.
const LARGEST: usize = 1 << 20;
const CONTROL: u8 = 0x80;
const FIN: u8 = 0x01;
const ID_MASK: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// RST_STREAM's status for a stream that is not wanted.
pub(super) const REFUSED_STREAM: u32 = 3;
/// GOAWAY's status for an ordinary end.
pub(super) const GOAWAY_OK: u32 = 0;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// SYN_STREAM.
    Open { id: u32, last: bool, headers: Headers },
    /// SYN_REPLY, of which only the arrival matters.
    Reply { id: u32 },
    /// RST_STREAM.
    Reset { id: u32, status: u32 },
    /// PING.
    Ping { id: u32 },
    /// GOAWAY.
    GoAway { last: u32, status: u32 },
    /// A piece of a stream.
    Data { id: u32, last: bool, data: Bytes },
    /// SETTINGS, HEADERS, WINDOW_UPDATE and what may come: nothing that these clients rely on.
    Other,
}

impl Frame {
    /// Takes the next frame off the buffer, if it is there as a whole.
    ///
    /// # Errors
    /// What is not SPDY/3.1, or larger than a sensible client's frames.
    pub(super) fn decode(buffer: &mut BytesMut, headers: &mut headers::Reader) -> io::Result<Option<Self>> {
        let Some(head) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let is_control = head[0] & CONTROL != 0;
        let flags = head[4];
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        if length > LARGEST {
            return Err(invalid(format!("a frame of {length} bytes")));
        }
        if buffer.len() < HEADER + length {
            buffer.reserve(HEADER + length - buffer.len());
            return Ok(None);
        }
        let mut frame = buffer.split_to(HEADER + length).freeze();
        if !is_control {
            let id = frame.get_u32() & ID_MASK;
            frame.advance(4);
            return Ok(Some(Self::Data { id, last: flags & FIN != 0, data: frame }));
        }
        let version = frame.get_u16() & 0x7fff;
        if version != VERSION {
            return Err(invalid(format!("version {version}")));
        }
        let kind = frame.get_u16();
        frame.advance(4);
        Self::control(kind, flags, frame, headers).map(Some)
    }

    fn control(kind: u16, flags: u8, mut body: Bytes, headers: &mut headers::Reader) -> io::Result<Self> {
        let needed = match kind {
            SYN_STREAM => 10,
            RST_STREAM | GOAWAY => 8,
            SYN_REPLY | PING => 4,
            _ => return Ok(Self::Other),
        };
        if body.len() < needed {
            return Err(invalid(format!("a control frame of type {kind} with {} bytes", body.len())));
        }
        let id = body.get_u32();
        Ok(match kind {
            SYN_STREAM => {
                // Another stream's id, a priority and a slot: none of them is used.
                body.advance(6);
                Self::Open { id: id & ID_MASK, last: flags & FIN != 0, headers: headers.read(&body)? }
            }
            // Later headers depend on all earlier ones.
            SYN_REPLY => headers.read(&body).map(|_| Self::Reply { id: id & ID_MASK })?,
            RST_STREAM => Self::Reset { id: id & ID_MASK, status: body.get_u32() },
            GOAWAY => Self::GoAway { last: id & ID_MASK, status: body.get_u32() },
            _ => Self::Ping { id },
        })
    }

    /// Appends the frame's bytes.
    ///
    /// # Errors
    /// None that occur in practice: compressing into memory.
    pub(super) fn encode(&self, headers: &mut headers::Writer, bytes: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Data { id, last, data } => {
                put(bytes, *id, if *last { FIN } else { 0 }, data.len());
                bytes.extend_from_slice(data);
            }
            Self::Open { id, last, headers: given } => {
                let block = headers.write(given)?;
                control(bytes, SYN_STREAM, if *last { FIN } else { 0 }, 10 + block.len());
                bytes.extend_from_slice(&id.to_be_bytes());
                bytes.extend_from_slice(&[0; 6]);
                bytes.extend_from_slice(&block);
            }
            Self::Reply { id } => {
                let block = headers.write(&Headers::new())?;
                control(bytes, SYN_REPLY, 0, 4 + block.len());
                bytes.extend_from_slice(&id.to_be_bytes());
                bytes.extend_from_slice(&block);
            }
            Self::Reset { id, status } => two_words(bytes, RST_STREAM, *id, *status),
            Self::GoAway { last, status } => two_words(bytes, GOAWAY, *last, *status),
            Self::Ping { id } => {
                control(bytes, PING, 0, 4);
                bytes.extend_from_slice(&id.to_be_bytes());
            }
            Self::Other => {}
        }
        Ok(())
    }
}

fn two_words(bytes: &mut Vec<u8>, kind: u16, first: u32, second: u32) {
    control(bytes, kind, 0, 8);
    bytes.extend_from_slice(&first.to_be_bytes());
    bytes.extend_from_slice(&second.to_be_bytes());
}

fn control(bytes: &mut Vec<u8>, kind: u16, flags: u8, length: usize) {
    put(bytes, u32::from(VERSION) << 16 | u32::from(kind) | u32::from(CONTROL) << 24, flags, length);
}

fn put(bytes: &mut Vec<u8>, word: u32, flags: u8, length: usize) {
    bytes.extend_from_slice(&word.to_be_bytes());
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    bytes.extend_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not SPDY/3.1: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_way() {
        let headers: Headers =
            [("streamtype".to_owned(), "data".to_owned()), ("port".to_owned(), "80".to_owned())].into();
        let frames = [
            Frame::Open { id: 1, last: false, headers: headers.clone() },
            Frame::Open { id: 3, last: true, headers },
            Frame::Reply { id: 1 },
            Frame::Data { id: 3, last: true, data: Bytes::from_static(b"abc") },
            Frame::Data { id: 1, last: false, data: Bytes::new() },
            Frame::Reset { id: 1, status: 5 },
            Frame::Ping { id: 7 },
            Frame::GoAway { last: 3, status: 0 },
        ];
        let mut writer = headers::Writer::new().expect("a compressor");
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut writer, &mut bytes).expect("encoded"));
        let mut reader = headers::Reader::new();
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            seen.extend(Frame::decode(&mut buffer, &mut reader).expect("decoded"));
        }
        assert_eq!(seen, frames);
        assert!(buffer.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &[0x80, 2, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0x80, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0],
            &[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2],
        ] {
            let mut buffer = BytesMut::from(bytes);
            assert!(Frame::decode(&mut buffer, &mut headers::Reader::new()).is_err(), "{bytes:?}");
        }
    }
}
