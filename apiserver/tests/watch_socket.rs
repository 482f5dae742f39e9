//! Watches over WebSocket, from outside.

use std::sync::Arc;

use apiserver::storage::memory::Memory;
use apiserver::{ApiServer, Config, User};
use axum::body::Body;
use axum::http::Request;
use futures::StreamExt;
use process::{Clock, Rng};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

#[tokio::test]
async fn each_event_is_a_message() {
    let token = CancellationToken::new();
    let server = ApiServer::build(Config::for_tests(), Arc::new(Memory::new()), Clock::system(), Rng::seeded(1));
    let server = server.expect("a server");
    let mut tasks = JoinSet::new();
    let mut running = server.start(&token).await.expect("started");
    tasks.spawn(async move { while running.join_next().await.is_some() {} });
    let admin = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
    let router = apiserver::in_process(server, admin);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (served, ends) = (router.clone(), token.clone());
    tasks.spawn(async move {
        axum::serve(listener, served).with_graceful_shutdown(ends.cancelled_owned()).await.expect("served")
    });

    let maps = "/api/v1/namespaces/default/configmaps";
    let url = format!("ws://{address}{maps}?watch=1&resourceVersion=0&labelSelector=w");
    let (mut socket, answer) = tokio_tungstenite::connect_async(url).await.expect("a socket");
    assert_eq!(answer.status().as_u16(), 101);
    for name in ["a", "b"] {
        let body = json!({"metadata": {"name": name, "labels": {"w": "1"}}}).to_string();
        let request = Request::post(maps).header("content-type", "application/json").body(Body::from(body));
        assert_eq!(router.clone().oneshot(request.expect("a request")).await.expect("an answer").status(), 201);
    }
    for name in ["a", "b"] {
        let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("no message of {name}") };
        let event: Value = serde_json::from_str(&text).expect("an event");
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
    }
    token.cancel();
    let last = socket.next().await;
    assert!(matches!(last, Some(Ok(Message::Close(_)))), "the watch ends with the server: {last:?}");
}
