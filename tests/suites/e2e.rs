//! The main job on real input: the unmodified nginx ReplicationController as real containers, on both stores. Needs root.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cluster::Cluster;
use tests::command::{run, until};
use tests::files;

const SOON: Duration = Duration::from_secs(30);

/// GET / of a pod, straight at its address.
fn page(address: &str, port: u16) -> Result<String, String> {
    let address: SocketAddr = format!("{address}:{port}").parse().map_err(|error| format!("{address}: {error}"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(|error| error.to_string())?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: pod\r\n\r\n").map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn serves_nginx(pod: &Value) {
    let address = pod["status"]["podIP"].as_str().expect("a ready pod has an address");
    until(&format!("nginx page from {address}"), SOON, || {
        page(address, 80).and_then(|text| if text.contains("Welcome to nginx!") { Ok(()) } else { Err(text) })
    });
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("objects have names")
}

fn main_job(store: &str) {
    let cluster = Cluster::start(&["--store", store, "--runtime", "linux"]);
    cluster.kubelab(&["image", "load", files::nginx_image().to_str().unwrap()]).ok();
    let example = files::example("nginx-rc.yaml");
    assert_eq!(
        cluster.official(&["apply", "-f", example.to_str().unwrap()]).ok(),
        "replicationcontroller/nginx created\n"
    );
    let pods = cluster.until_pods("app=nginx", 3, SOON);
    pods.iter().for_each(serves_nginx);

    a_killed_process_is_restarted(&cluster, &pods[0]);
    a_deleted_pod_is_replaced(&cluster, &pods[1]);
    for replicas in [5, 0, 3] {
        cluster.official(&["scale", "rc", "nginx", &format!("--replicas={replicas}")]).ok();
        cluster.until_pods("app=nginx", replicas, SOON).iter().for_each(serves_nginx);
    }
    a_status_written_over_is_put_right(&cluster);
    logs_and_exec(&cluster);
    for web_sockets in ["true", "false"] {
        streams(&cluster, web_sockets);
    }
    survives_a_crash(&cluster);
    nothing_is_left(cluster);
}

fn a_killed_process_is_restarted(cluster: &Cluster, pod: &Value) {
    cluster.official(&["exec", name(pod), "--", "/bin/sh", "-c", "kill -TERM 1"]);
    until("the container's restart", SOON, || {
        let pod = cluster.get(&["pod", name(pod)]);
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"] == 1 && status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
    });
    serves_nginx(&cluster.get(&["pod", name(pod)]));
}

fn a_deleted_pod_is_replaced(cluster: &Cluster, pod: &Value) {
    let begun = Instant::now();
    cluster.official(&["delete", "pod", name(pod), "--wait=false"]).ok();
    until("a new pod", Duration::from_secs(10), || {
        let ready = cluster.ready_pods("app=nginx");
        if ready.len() == 3 && ready.iter().all(|other| name(other) != name(pod)) {
            Ok(())
        } else {
            Err(format!("{} ready", ready.len()))
        }
    });
    println!("a deleted pod was replaced by a ready one after {:?}", begun.elapsed());
    cluster.until_pods("app=nginx", 3, SOON);
}

/// As the node lifecycle controller does to the pods of a node that was away for a while.
fn a_status_written_over_is_put_right(cluster: &Cluster) {
    let pods = cluster.ready_pods("app=nginx");
    let unready = r#"{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}"#;
    cluster.official(&["patch", "pod", name(&pods[0]), "--subresource=status", "-p", unready]).ok();
    cluster.until_pods("app=nginx", 3, SOON);
}

fn logs_and_exec(cluster: &Cluster) {
    let pods = cluster.ready_pods("app=nginx");
    let pod = name(&pods[0]);
    serves_nginx(&pods[0]);
    until("the request in the log", SOON, || {
        let log = cluster.official(&["logs", pod, "--tail=1"]).ok();
        if log.contains("GET / HTTP/1.0") { Ok(()) } else { Err(log) }
    });
    for kubectl in [Cluster::official, Cluster::ours] {
        assert_eq!(kubectl(cluster, &["exec", pod, "--", "/bin/sh", "-c", "echo out; exit 3"]).code, Some(3));
        assert_eq!(kubectl(cluster, &["exec", pod, "--", "/bin/busybox", "hostname"]).ok().trim(), pod);
    }
}

/// What kubectl sends over WebSockets, and over SPDY where it is told to or is older.
fn streams(cluster: &Cluster, web_sockets: &str) {
    let pods = cluster.ready_pods("app=nginx");
    let pod = name(&pods[0]);
    let command = |args: &[&str]| {
        let mut command = cluster.official_command(args);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", web_sockets);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", web_sockets);
        command
    };
    let ran = run(&mut command(&["exec", pod, "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 3"]));
    assert_eq!((ran.stdout.as_str(), ran.code), ("out\n", Some(3)), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("err\n"), "{}", ran.stderr);

    let mut copy = command(&["exec", "-i", pod, "--", "/bin/busybox", "wc", "-c"]);
    let mut copy = copy.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    copy.stdin.take().expect("its input").write_all(&[b'x'; 300_000]).expect("it reads");
    assert_eq!(String::from_utf8_lossy(&copy.wait_with_output().expect("it ends").stdout).trim(), "300000");

    let mut forward = command(&["port-forward", &format!("pod/{pod}"), ":80"]);
    let mut forward = forward.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    // Open until the end: kubectl says something for every connection.
    let mut output = BufReader::new(forward.stdout.take().expect("its output"));
    output.read_line(&mut line).expect("it says where");
    let port: u16 = line
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split_once(' ')?.0.parse().ok())
        .unwrap_or_else(|| panic!("{line:?}"));
    for _ in 0..3 {
        let text = page("127.0.0.1", port);
        assert!(text.as_ref().is_ok_and(|text| text.contains("Welcome to nginx!")), "{text:?}");
    }
    forward.kill().expect("it runs until it is ended");
    forward.wait().expect("it ends");
}

/// kill -9 of everything, then start again: the same objects, and the containers are found or made anew.
fn survives_a_crash(cluster: &Cluster) {
    let status: Value = serde_json::from_str(&cluster.kubelab(&["status", "-o", "json"]).ok()).unwrap();
    let before: Vec<Value> = cluster.ready_pods("app=nginx");
    for component in status["components"].as_array().unwrap() {
        run(Command::new("kill").args(["-KILL", &component["pid"].to_string()])).ok();
    }
    cluster.kubelab(&["start"]).ok();
    let after = cluster.until_pods("app=nginx", 3, SOON);
    let ids = |pods: &[Value]| -> Vec<String> {
        let mut ids: Vec<String> =
            pods.iter().map(|pod| pod["status"]["containerStatuses"][0]["containerID"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&before), ids(&after), "containers survive their kubelet");
    after.iter().for_each(serves_nginx);
}

/// After the controller and then the cluster are gone, so is every trace on the machine.
fn nothing_is_left(cluster: Cluster) {
    let node = cluster.get(&["nodes"])["items"][0].take();
    let network = node["spec"]["podCIDR"].as_str().expect("nodes get addresses for pods").replace(['.', '/'], "_");
    let node = name(&node).replace('-', "_");
    let tables = || run(Command::new("nft").args(["list", "tables"])).ok();
    assert!(tables().contains(&network) && tables().contains(&node), "tables have other names: {}", tables());
    cluster.official(&["delete", "rc", "nginx"]).ok();
    cluster.until_pods("app=nginx", 0, SOON);
    let folder = cluster.dir();
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let ours = |line: &&str| {
        line.contains(folder.to_str().unwrap())
            && (line.contains("overlay") || line.contains("nsfs") || line.contains("netns"))
    };
    until("mounts of pods to go", SOON, || {
        let mounts = mounts();
        let left: Vec<&str> = mounts.lines().filter(ours).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    let name = cluster.name.clone();
    drop(cluster);
    assert!(!mounts().contains(folder.to_str().unwrap()), "mounts are left:\n{}", mounts());
    let processes = run(Command::new("ps").args(["-eo", "args"])).ok();
    let left: Vec<&str> = processes.lines().filter(|line| line.contains(&name)).collect();
    assert!(left.is_empty(), "processes are left: {left:#?}");
    assert!(!folder.exists());
    let tables = tables();
    let left: Vec<&str> = tables.lines().filter(|line| line.contains(&network) || line.contains(&node)).collect();
    assert!(left.is_empty(), "tables of nft are left: {left:#?}");
}

#[test]
fn nginx_on_the_embedded_store() {
    main_job("embedded");
}

#[test]
fn nginx_on_etcd() {
    main_job("etcd");
}

/// The first start needs no image from anywhere: the binary itself is one.
#[test]
fn the_demo_image_is_built_in() {
    let cluster = Cluster::start(&["--runtime", "linux"]);
    cluster.ours(&["apply", "-f", files::example("demo-rc.yaml").to_str().unwrap()]).ok();
    let pods = cluster.until_pods("app=demo", 2, SOON);
    for pod in &pods {
        let address = pod["status"]["podIP"].as_str().unwrap();
        until("the demo's page", SOON, || {
            page(address, 80).and_then(|text| if text.contains(name(pod)) { Ok(()) } else { Err(text) })
        });
    }
}

/// A node whose kubelet dies is noticed, and its pods move. The controller manager is our own, with a grace period of one and a half heartbeats.
#[test]
fn pods_leave_a_node_that_stops_heart_beating() {
    let cluster = Cluster::start(&["--runtime", "simulated", "--nodes", "2", "--without", "controller-manager"]);
    let config = cluster.dir().join("kubeconfig/controller-manager.conf");
    let mut controllers = Command::new(files::kubelab())
        .args(["controller-manager", "--node-monitor-grace-period=15s"])
        .arg(format!("--kubeconfig={}", config.display()))
        .arg(format!("--root-ca-file={}", cluster.dir().join("pki/ca.crt").display()))
        .stderr(std::fs::File::create(cluster.dir().join("logs/own-controller-manager.log")).unwrap())
        .spawn()
        .unwrap();
    let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pods_move(&cluster)));
    controllers.kill().unwrap();
    controllers.wait().unwrap();
    moved.unwrap();
}

fn pods_move(cluster: &Cluster) {
    let mut rc: Value =
        serde_yaml::from_str(&std::fs::read_to_string(files::example("nginx-rc.yaml")).unwrap()).unwrap();
    rc["spec"]["template"]["spec"]["tolerations"] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]
        .map(|key| serde_json::json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}))
        .to_vec()
        .into();
    let file = cluster.dir().join("rc.json");
    std::fs::write(&file, rc.to_string()).unwrap();
    until("the default account", SOON, || {
        let got = cluster.official(&["get", "serviceaccount", "default"]);
        if got.code == Some(0) { Ok(()) } else { Err(got.stderr) }
    });
    cluster.official(&["apply", "-f", file.to_str().unwrap()]).ok();
    let pods = cluster.until_pods("app=nginx", 3, SOON);
    let node = pods[0]["spec"]["nodeName"].as_str().unwrap().to_owned();

    let status: Value = serde_json::from_str(&cluster.kubelab(&["status", "-o", "json"]).stdout).unwrap();
    let kubelet = status["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|component| component["name"] == format!("kubelet-{node}"))
        .unwrap();
    run(Command::new("kill").args(["-KILL", &kubelet["pid"].to_string()])).ok();
    until("all pods on the other node", Duration::from_secs(90), || {
        let ready = cluster.ready_pods("app=nginx");
        let elsewhere = ready.iter().filter(|pod| pod["spec"]["nodeName"] != node.as_str()).count();
        if elsewhere == 3 { Ok(()) } else { Err(format!("{elsewhere} elsewhere")) }
    });
    let dead = cluster.get(&["node", &node]);
    let ready =
        dead["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some("Unknown"), Some("NodeStatusUnknown")));
}
