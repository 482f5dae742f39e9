//! A client's side, written as one sends it.

use super::*;

async fn send(io: &mut DuplexStream, headers: &mut headers::Writer, frames: &[Frame]) {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(headers, &mut bytes).expect("encoded"));
    io.write_all(&bytes).await.expect("sent");
}

/// Everything until the server closes.
async fn receive(io: &mut DuplexStream) -> Vec<Frame> {
    let (mut buffer, mut frames, mut headers) = (BytesMut::new(), Vec::new(), headers::Reader::new());
    while io.read_buf(&mut buffer).await.expect("read") > 0 {}
    while let Some(frame) = Frame::decode(&mut buffer, &mut headers).expect("decoded") {
        frames.push(frame);
    }
    frames
}

fn headers_of(kind: &str) -> Headers {
    [("streamtype".to_owned(), kind.to_owned())].into()
}

#[tokio::test]
async fn streams_are_opened_answered_and_ended() {
    let (mut client, server) = tokio::io::duplex(PIPE);
    let mut connection = accept(server);
    let mut headers = headers::Writer::new().expect("a compressor");
    let data = |id, last, text: &'static str| Frame::Data { id, last, data: Bytes::from_static(text.as_bytes()) };
    let opened = [
        Frame::Open { id: 1, last: true, headers: headers_of("error") },
        Frame::Open { id: 3, last: false, headers: headers_of("data") },
        Frame::Ping { id: 1 },
        data(3, false, "ab"),
        data(3, true, "c"),
    ];
    send(&mut client, &mut headers, &opened).await;
    let mut error = connection.next().await.expect("a stream");
    assert_eq!(error.headers, headers_of("error"));
    assert_eq!(error.incoming.recv().await, None, "half closed from the beginning");
    let mut stream = connection.next().await.expect("another");
    assert_eq!(stream.incoming.recv().await.as_deref(), Some(&b"ab"[..]));
    assert_eq!(stream.incoming.recv().await.as_deref(), Some(&b"c"[..]));
    assert_eq!(stream.incoming.recv().await, None);
    assert!(stream.outgoing.send(Bytes::from_static(b"answer")).await);
    stream.outgoing.end().await;
    drop(connection);
    let wanted = [
        Frame::Reply { id: 1 },
        Frame::Reply { id: 3 },
        Frame::Ping { id: 1 },
        data(3, false, "answer"),
        data(3, true, ""),
        Frame::GoAway { last: 0, status: GOAWAY_OK },
    ];
    assert_eq!(receive(&mut client).await, wanted);
}

#[tokio::test]
async fn the_end_of_the_client_ends_its_streams() {
    let (mut client, server) = tokio::io::duplex(PIPE);
    let mut connection = accept(server);
    let mut headers = headers::Writer::new().expect("a compressor");
    send(&mut client, &mut headers, &[Frame::Open { id: 1, last: false, headers: headers_of("data") }]).await;
    let mut stream = connection.next().await.expect("a stream");
    drop(client);
    assert_eq!(stream.incoming.recv().await, None);
    assert!(connection.next().await.is_none());
    assert!(!stream.outgoing.send(Bytes::from_static(b"late")).await);
}
