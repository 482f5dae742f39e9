//! What a listener puts up with, on real sockets: slow, silent and greedy clients, and the end of the process.

#[path = "limits/client.rs"]
mod client;

use std::sync::Arc;
use std::time::Duration;

use apiserver::server::Limits;
use client::{Connection, Listening};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn short() -> Limits {
    Limits {
        handshake: Duration::from_millis(300),
        header: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        unread: Duration::from_millis(500),
        ..Limits::default()
    }
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let server = Listening::start(Limits::default()).await;
    let mut connection = server.connect(&[]).await;
    let body = vec![b' '; 3 * 1024 * 1024 + 1];
    let answer = connection.ask("POST", "/api/v1/namespaces/default/configmaps", "", &body).await;
    assert_eq!(answer.status, 413);
    let status: serde_json::Value = serde_json::from_str(&answer.body).expect("a Status");
    assert_eq!(status["reason"], "RequestEntityTooLarge");
    assert_eq!(status["message"], "Request entity too large: limit is 3145728");
    let mut connection = server.connect(&[]).await;
    let body = json!({"metadata": {"name": "large"}, "data": {"a": "x".repeat(900_000)}}).to_string();
    let answer = connection.ask("POST", "/api/v1/namespaces/default/configmaps", "", body.as_bytes()).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn compressed_bodies_are_not_read() {
    let server = Listening::start(Limits::default()).await;
    let mut connection = server.connect(&[]).await;
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let encoded = "Content-Encoding: gzip\r\n";
    let answer = connection.ask("POST", "/api/v1/namespaces/default/configmaps", encoded, &gzip).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(r"invalid character '\\x1f' looking for beginning of value"), "{}", answer.body);
}

#[tokio::test]
async fn heads_have_a_limit() {
    let server = Listening::start(Limits::default()).await;
    for (what, path, headers, status) in [
        ("a long path", "/version?".to_owned() + &"x".repeat(30_000), String::new(), 200),
        ("a path that is too long", "/version?".to_owned() + &"x".repeat(70_000), String::new(), 414),
        ("large headers", "/version".to_owned(), format!("X-Large: {}\r\n", "x".repeat(100_000)), 200),
        ("headers that are too large", "/version".to_owned(), format!("X-Large: {}\r\n", "x".repeat(700_000)), 431),
        ("too many headers", "/version".to_owned(), "X-Many: 1\r\n".repeat(200), 431),
    ] {
        let mut connection = server.connect(&[]).await;
        assert_eq!(connection.ask("GET", &path, &headers, b"").await.status, status, "{what}");
    }
}

#[tokio::test]
async fn who_does_not_begin_in_time_is_cut_off() {
    let server = Listening::start(short()).await;
    let began = Instant::now();
    let mut raw = tokio::net::TcpStream::connect(server.address).await.expect("connected");
    assert!(client::ends(&mut raw).await, "no handshake");
    let mut silent = server.connect(&[]).await;
    assert!(silent.ends().await, "no head");
    let mut slow = server.connect(&[]).await;
    slow.write(b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(slow.ends().await, "half a head");
    let mut second = server.connect(&[b"h2"]).await;
    second.write(b"PRI * HTTP/2.0\r\n").await;
    assert!(second.ends().await, "half a preface");
    assert!(began.elapsed() < PATIENCE);
    let mut prompt = server.connect(&[]).await;
    assert_eq!(prompt.ask("GET", "/version", "", b"").await.status, 200);
    let watch = "/api/v1/configmaps?watch=1&timeoutSeconds=1";
    assert!(prompt.ask("GET", watch, "", b"").await.whole, "who waits for an answer is not idle");
    assert!(prompt.ends().await, "but who asks for nothing is");
}

#[tokio::test]
async fn a_slow_body_ends_with_the_requests_time() {
    let server = Listening::start(Limits::default()).await;
    let mut connection = server.connect(&[]).await;
    let head = "POST /api/v1/namespaces/default/configmaps?timeout=300ms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    connection.write(head.as_bytes()).await;
    let answer = connection.answer().await;
    assert_eq!(answer.status, 504);
    let status: serde_json::Value = serde_json::from_str(&answer.body).expect("a Status");
    assert_eq!(status["message"], "Timeout: request did not complete within the allotted timeout");
    assert_eq!((&status["reason"], &status["code"]), (&json!("Timeout"), &json!(504)));
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_dropped() {
    let server = Listening::start(short()).await;
    let mut watcher = server.connect(&[]).await;
    watcher.write(b"GET /api/v1/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.until("the watch has begun", |server| server.streams() == 1).await;
    let router = server.router();
    let dropped = async {
        for i in 0.. {
            let body = json!({"metadata": {"name": format!("c-{i}")}, "data": {"a": "x".repeat(20_000)}});
            client::create(&router, &body).await;
            if server.streams() == 0 {
                return i;
            }
            if i > 400 {
                sleep(Duration::from_millis(50)).await;
            }
        }
        0
    };
    let written = timeout(PATIENCE, dropped).await.expect("the watch is dropped");
    assert!(written > 50, "buffers fill first");
    // Another one, that reads, sees everything.
    let mut reader = server.connect(&[]).await;
    let answer = reader.ask("GET", "/api/v1/configmaps?watch=1&resourceVersion=0&timeoutSeconds=1", "", b"").await;
    assert!(answer.body.lines().count() > 50);
}

#[tokio::test]
async fn requests_end_before_the_process_does() {
    let server = Arc::new(Listening::start(Limits::default()).await);
    let mut idle = server.connect(&[]).await;
    assert_eq!(idle.ask("GET", "/readyz", "", b"").await.status, 200);
    let mut watcher = server.connect(&[]).await;
    watcher.write(b"GET /api/v1/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.until("the watch has begun", |server| server.streams() == 1).await;
    let mut writing = server.connect(&[]).await;
    let body = json!({"metadata": {"name": "last"}}).to_string();
    let head = format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    writing.write(head.as_bytes()).await;
    server.until("the request has begun", |server| server.running() == 1).await;
    server.server.checks.drain();
    assert_eq!(idle.ask("GET", "/readyz", "", b"").await.status, 500, "not ready, but it serves");
    server.close();
    assert!(idle.ends().await, "idle connections end");
    let watched = watcher.answer().await;
    assert_eq!((watched.status, watched.whole), (200, true), "the watch ends as it should");
    server.until("nobody new is let in", |server| server.is_closed()).await;
    writing.write(body.as_bytes()).await;
    let answer = writing.answer().await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(writing.ends().await);
    timeout(PATIENCE, server.ended()).await.expect("then the server ends");
}

#[tokio::test]
async fn streams_taken_back_at_once_end_the_connection() {
    let server = Listening::start(Limits::default()).await;
    let mut connection = server.connect(&[b"h2"]).await;
    assert!(timeout(PATIENCE, rapid_reset(&mut connection)).await.expect("in time"), "the server goes away");
    let mut other = server.connect(&[]).await;
    assert_eq!(other.ask("GET", "/version", "", b"").await.status, 200);
}

/// Opens and resets streams until the server has enough; true if it says so or closes.
async fn rapid_reset(connection: &mut Connection) -> bool {
    connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    connection.write(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    // :method GET, :scheme https, :path /, :authority x, by HPACK's static table.
    let head = [0x82, 0x87, 0x84, 0x41, 1, b'x'];
    let mut frames = Vec::new();
    for stream in (1..40_001_u32).step_by(2) {
        frames.extend_from_slice(&[0, 0, 6, 1, 5]);
        frames.extend_from_slice(&stream.to_be_bytes());
        frames.extend_from_slice(&head);
        frames.extend_from_slice(&[0, 0, 4, 3, 0]);
        frames.extend_from_slice(&stream.to_be_bytes());
        frames.extend_from_slice(&8_u32.to_be_bytes());
    }
    for part in frames.chunks(64 * 1024) {
        if !connection.try_write(part).await {
            return true;
        }
    }
    connection.ends().await
}
