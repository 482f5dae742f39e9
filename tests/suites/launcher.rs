//! `kubelab` as a user meets it: start, start again, several clusters, clear words for what goes wrong, nothing left behind.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::cluster::Cluster;
use tests::command::{run, until};

const SIMULATED: [&str; 2] = ["--runtime", "simulated"];

fn status(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.kubelab(&["status", "-o", "json"]).stdout).expect("status prints JSON")
}

fn pids(cluster: &Cluster) -> Vec<String> {
    status(cluster)["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|component| component["running"] == true)
        .map(|component| component["pid"].to_string())
        .collect()
}

#[test]
fn a_cluster_continues_after_stop_and_after_kill() {
    let cluster = Cluster::start(&SIMULATED);
    assert_eq!(status(&cluster)["state"], "Running");
    cluster.official(&["create", "configmap", "kept", "--from-literal=a=b"]).ok();

    // Starting what runs changes nothing.
    let before = pids(&cluster);
    cluster.kubelab(&["start"]).ok();
    assert_eq!(before, pids(&cluster));

    cluster.kubelab(&["stop"]).ok();
    assert_eq!(status(&cluster)["state"], "Stopped");
    cluster.official(&["get", "configmaps"]).fails_with(1);
    cluster.kubelab(&["start"]).ok();
    assert_eq!(cluster.get(&["configmap", "kept"])["data"]["a"], "b");

    cluster.official(&["create", "configmap", "kept-too", "--from-literal=c=d"]).ok();
    run(Command::new("kill").arg("-KILL").args(pids(&cluster))).ok();
    until("the processes to be gone", Duration::from_secs(5), || {
        if pids(&cluster).is_empty() { Ok(()) } else { Err("alive".into()) }
    });
    cluster.kubelab(&["start"]).ok();
    assert_eq!(cluster.get(&["configmap", "kept-too"])["data"]["c"], "d");
    assert_eq!(status(&cluster)["nodes"][0]["ready"], true);
}

/// The command lines that name the cluster's folder.
fn processes(cluster: &Cluster) -> Vec<String> {
    let folder = cluster.folder().to_str().expect("a temporary folder is text");
    let lines = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder)).collect()
}

/// However early `start` is killed, the next one knows every process that it left, and `delete` ends them all.
#[test]
fn a_killed_start_loses_no_process() {
    for milliseconds in [5, 20, 40, 60, 80, 120, 200] {
        let cluster = Cluster::home();
        let mut begun = Command::new("timeout");
        let limit = format!("{}", f64::from(milliseconds) / 1000.0);
        begun.args(["-s", "KILL", &limit]).arg(tests::files::kubelab()).args(["start"]).args(SIMULATED);
        cluster.run(&mut begun);
        cluster.kubelab(&[&["start"], &SIMULATED[..]].concat()).ok();
        let known = pids(&cluster);
        let alive = processes(&cluster);
        assert_eq!(alive.len(), known.len(), "after {milliseconds} ms: {alive:?} are alive, {known:?} known");
        cluster.kubelab(&["delete"]).ok();
        assert!(processes(&cluster).is_empty(), "after {milliseconds} ms: {:?}", processes(&cluster));
    }
}

#[test]
fn clusters_run_side_by_side() {
    let (one, two) = (Cluster::start(&SIMULATED), Cluster::start(&[&SIMULATED[..], &["--nodes", "3"]].concat()));
    assert_ne!(status(&one)["server"], status(&two)["server"]);
    let nodes = two.get(&["nodes"]);
    assert_eq!(nodes["items"].as_array().unwrap().len(), 3);
    one.official(&["create", "namespace", "only-here"]).ok();
    two.official(&["get", "namespace", "only-here"]).fails_with(1);
    let cidrs: std::collections::BTreeSet<String> =
        nodes["items"].as_array().unwrap().iter().map(|node| node["spec"]["podCIDR"].to_string()).collect();
    assert_eq!(cidrs.len(), 3);
}

#[test]
fn deleting_leaves_nothing() {
    let cluster = Cluster::start(&SIMULATED);
    let folder = cluster.dir();
    cluster.kubelab(&["delete"]).ok();
    assert!(!folder.exists());
    let config = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    assert!(!config.contains(&cluster.name), "{config}");
    assert!(cluster.kubelab(&["status"]).fails_with(1).contains("there is no cluster"));
}

#[test]
fn a_data_dir_of_ones_own_is_found_by_name() {
    let cluster = Cluster::home();
    let dir = cluster.folder().join("elsewhere/deep");
    cluster.kubelab(&["start", "--data-dir", dir.to_str().unwrap(), "--runtime", "simulated"]).ok();
    assert!(dir.join("cluster.json").exists());
    assert_eq!(status(&cluster)["state"], "Running");
    cluster.kubelab(&["delete"]).ok();
    assert!(!dir.exists() && !cluster.dir().is_symlink());
}

#[test]
fn components_may_be_left_out() {
    let cluster = Cluster::start(&["--without", "scheduler,kubelet"]);
    let status = status(&cluster);
    let names: Vec<&str> =
        status["components"].as_array().unwrap().iter().filter_map(|component| component["name"].as_str()).collect();
    assert_eq!(names, ["apiserver", "controller-manager"]);
    assert_eq!(cluster.get(&["nodes"])["items"].as_array().unwrap().len(), 0);
}

/// One sentence, exit code 1, and nothing half-started.
#[test]
fn what_goes_wrong_is_said_and_taken_back() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let cluster = Cluster::home();
    for (flags, words) in [
        (vec!["--port", port.as_str()], "is in use by another program"),
        (vec!["--data-dir", "/proc/kubelab"], "choose another folder with --data-dir"),
        (vec!["--without", "apiserver"], "can't be left out"),
        (vec!["--etcd-servers", "https://127.0.0.1:1"], "needs --store etcd"),
        (vec!["--name", "Not_A_Name"], "can't be a cluster's name"),
    ] {
        let error = cluster.kubelab(&[&["start", "--runtime", "simulated"], &flags[..]].concat()).fails_with(1);
        assert!(error.contains(words) && error.trim().lines().count() == 1, "{flags:?}: {error}");
        assert!(!cluster.dir().exists(), "{flags:?}");
    }
    let error = cluster
        .kubelab(&["start", "--store", "etcd", "--etcd-servers", "http://127.0.0.1:1", "--runtime", "simulated"])
        .fails_with(1);
    assert!(error.contains("apiserver ended"), "{error}");
    assert!(!cluster.dir().exists());
    let processes = run(Command::new("ps").args(["-eo", "args"])).ok();
    assert!(!processes.contains(&cluster.name), "{processes}");
}

#[test]
fn the_admin_is_kubernetes_admin() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    let who: Value = serde_json::from_str(&cluster.official(&["auth", "whoami", "-o", "json"]).ok()).unwrap();
    assert_eq!(who["status"]["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(who["status"]["userInfo"]["groups"], serde_json::json!(["system:masters", "system:authenticated"]));
    // No component may do everything, and a node only its own things.
    for (component, verb, resource, allowed) in [
        ("controller-manager", "create", "pods", true),
        ("controller-manager", "create", "clusterrolebindings", false),
        ("scheduler", "create", "pods --subresource=binding", true),
        ("scheduler", "delete", "nodes", false),
        ("scheduler", "get", "secrets", false),
    ] {
        let config = cluster.dir().join(format!("kubeconfig/{component}.conf"));
        let answer = cluster.official(
            &["--kubeconfig", config.to_str().unwrap(), "auth", "can-i", verb]
                .into_iter()
                .chain(resource.split(' '))
                .collect::<Vec<_>>(),
        );
        assert_eq!(answer.stdout.trim() == "yes", allowed, "{component} {verb} {resource}: {answer:?}");
    }
}
