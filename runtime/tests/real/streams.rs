//! Exec, attach and port-forward over WebSocket: needs root, and Debian's busybox-static.

use std::time::Duration;

use crate::lab::Lab;
use cri::v1;
use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn dial(url: &str, protocol: &str) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().expect("valid"));
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
}

async fn say(socket: &mut Socket, channel: u8, data: &[u8]) {
    let bytes = [&[channel], data].concat();
    socket.send(Message::Binary(bytes.into())).await.expect("sent");
}

/// Everything until the end, by channel.
async fn rest(socket: &mut Socket) -> [String; 4] {
    let mut all: [Vec<u8>; 4] = Default::default();
    let read = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(bytes) = message {
                all[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("ends in time");
    all.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads until the text was seen on a channel.
async fn until(socket: &mut Socket, channel: u8, text: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(text) {
            if let Message::Binary(bytes) = socket.next().await.expect("open").expect("message")
                && bytes[0] == channel
            {
                seen += &String::from_utf8_lossy(&bytes[1..]);
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(seen.contains(text), "{seen:?}");
    seen
}

async fn exec(lab: &mut Lab, id: &str, script: &str, tty: bool, stdin: bool) -> String {
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        tty,
        stdin,
        stdout: true,
        stderr: !tty,
        ..Default::default()
    };
    lab.runtime.exec(request).await.expect("prepared").into_inner().url
}

#[tokio::test]
async fn commands_with_input_output_and_code() {
    let mut lab = Lab::new("exec", 21).await;
    let sandbox = lab.sandbox().await;
    let id = lab.run(&sandbox, lab.shell("app", "sleep 1000")).await;
    let url = exec(&mut lab, &id, "cat; echo err >&2; exit 3", false, true).await;
    let mut socket = dial(&url, "v5.channel.k8s.io").await.expect("connected");
    say(&mut socket, 0, b"hello ").await;
    say(&mut socket, 0, b"there").await;
    say(&mut socket, 255, &[0]).await;
    let [_, stdout, stderr, error] = rest(&mut socket).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello there", "err\n"));
    let status: serde_json::Value = serde_json::from_str(&error).expect("status");
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&"NonZeroExitCode".into(), &"3".into())
    );
    assert!(dial(&url, "v5.channel.k8s.io").await.is_err(), "a token is good for one connection");

    let url = exec(&mut lab, &id, "yes | head -c 3000000", false, false).await;
    let [_, stdout, _, error] = rest(&mut dial(&url, "v4.channel.k8s.io").await.expect("connected")).await;
    assert_eq!((stdout.len(), error.as_str()), (3_000_000, r#"{"metadata":{},"status":"Success"}"#));

    let request =
        v1::ExecRequest { container_id: id.clone(), cmd: vec!["nope".to_owned()], stdout: true, ..Default::default() };
    let url = lab.runtime.exec(request).await.expect("prepared").into_inner().url;
    let [.., error] = rest(&mut dial(&url, "v4.channel.k8s.io").await.expect("connected")).await;
    assert!(error.contains(r#"exec: \"nope\": executable file not found in $PATH"#), "{error}");
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn a_terminal_with_a_size() {
    let mut lab = Lab::new("tty", 22).await;
    let sandbox = lab.sandbox().await;
    let id = lab.run(&sandbox, lab.shell("app", "sleep 1000")).await;
    let url = exec(&mut lab, &id, "tty; echo ready; read x; stty size; echo got $x; exit 4", true, true).await;
    let mut socket = dial(&url, "v5.channel.k8s.io").await.expect("connected");
    let seen = until(&mut socket, 1, "ready").await;
    assert!(seen.contains("/dev/pts/0"), "{seen}");
    say(&mut socket, 4, br#"{"Width":123,"Height":45}"#).await;
    say(&mut socket, 0, b"word\n").await;
    let [_, stdout, _, error] = rest(&mut socket).await;
    assert!(stdout.contains("45 123") && stdout.contains("got word"), "{stdout}");
    assert!(error.contains(r#""message":"4""#), "{error}");
    lab.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_command() {
    let mut lab = Lab::new("hangup", 23).await;
    let sandbox = lab.sandbox().await;
    let id = lab.run(&sandbox, lab.shell("app", "sleep 1000")).await;
    let url = exec(&mut lab, &id, "echo begun; sleep 7777", false, true).await;
    let mut socket = dial(&url, "v5.channel.k8s.io").await.expect("connected");
    until(&mut socket, 1, "begun").await;
    drop(socket);
    let gone = async {
        // The shell itself is killed; what it started may go on.
        while lab.exec(&id, "ps | grep -c 'begun; [s]leep'").await.1 != "0\n" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("killed");
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn attaching_to_a_container() {
    let mut lab = Lab::new("attach", 24).await;
    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("app", "while read line; do echo got $line; [ $line = end ] && exit 0; done; exit 9");
    config.stdin = true;
    let id = lab.run(&sandbox, config).await;
    let request =
        v1::AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true, ..Default::default() };
    let url = lab.runtime.attach(request.clone()).await.expect("prepared").into_inner().url;
    let mut first = dial(&url, "v5.channel.k8s.io").await.expect("connected");
    say(&mut first, 0, b"one\n").await;
    until(&mut first, 1, "got one").await;
    drop(first);
    lab.crash_and_restart().await;
    let url = lab.runtime.attach(request).await.expect("prepared").into_inner().url;
    let mut second = dial(&url, "v4.channel.k8s.io").await.expect("connected");
    say(&mut second, 0, b"two\nend\n").await;
    let [_, stdout, ..] = rest(&mut second).await;
    assert_eq!(stdout, "got two\ngot end\n");
    assert_eq!(lab.ended(&id).await.exit_code, 0);
    assert_eq!(lab.log("app"), ["stdout F got one", "stdout F got two", "stdout F got end"]);
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn forwarding_a_port() {
    let mut lab = Lab::new("forward", 25).await;
    let sandbox = lab.sandbox().await;
    lab.run(&sandbox, lab.shell("app", "mkdir /www; echo pong > /www/index.html; httpd -f -p 127.0.0.1:99 -h /www"))
        .await;
    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.clone(), port: vec![99, 98] };
    let answered = async {
        loop {
            let url = lab.runtime.port_forward(request.clone()).await.expect("prepared").into_inner().url;
            let mut socket = dial(&url, "v4.channel.k8s.io").await.expect("connected");
            say(&mut socket, 0, b"GET / HTTP/1.0\r\n\r\n").await;
            let mut seen: [Vec<u8>; 4] = Default::default();
            while let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_millis(300), socket.next()).await {
                if let Message::Binary(bytes) = message {
                    seen[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
                }
            }
            if seen[0].len() > 2 {
                return seen;
            }
        }
    };
    let [data, error, other, refused] = tokio::time::timeout(Duration::from_secs(10), answered).await.expect("in time");
    assert!(data.starts_with(b"c\0HTTP/1.") && data.ends_with(b"pong\n"), "{}", String::from_utf8_lossy(&data));
    assert_eq!((error, other), (b"c\0".to_vec(), b"b\0".to_vec()));
    assert!(String::from_utf8_lossy(&refused[2..]).contains("error forwarding port 98"), "{refused:?}");
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}
