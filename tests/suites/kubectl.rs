//! kubectl, the official one and ours, on one cluster: every verb that users begin with, its output and its exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::cluster::Cluster;
use tests::command::{Ran, until};
use tests::{files, transcript};

const SOON: Duration = Duration::from_secs(20);

/// One of the two programs, in a namespace of its own.
struct Kubectl<'a> {
    cluster: &'a Cluster,
    run: fn(&Cluster, &[&str]) -> Ran,
    namespace: &'static str,
    official: bool,
}

impl Kubectl<'_> {
    fn run(&self, line: &str) -> Ran {
        let args: Vec<&str> = ["-n", self.namespace].into_iter().chain(line.split(' ')).collect();
        (self.run)(self.cluster, &args)
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }

    /// Runs a line and compares all of its output.
    #[track_caller]
    fn prints(&self, line: &str, wanted: &str) {
        assert_eq!(self.ok(line), wanted, "kubectl {line}");
    }

    #[track_caller]
    fn fails(&self, line: &str, words: &str) {
        let error = self.run(line).fails_with(1);
        assert!(error.contains(words), "kubectl {line}: {error}");
    }

    fn until(&self, line: &str, holds: impl Fn(&str) -> bool) {
        until(&format!("kubectl {line}"), SOON, || {
            let ran = self.run(line);
            if holds(&ran.stdout) { Ok(()) } else { Err(format!("{}{}", ran.stdout, ran.stderr)) }
        });
    }
}

#[test]
fn the_verbs_of_both_programs() {
    let cluster = Cluster::start(&["--runtime", "simulated"]);
    let nginx = files::example("nginx-rc.yaml");
    for kubectl in [
        Kubectl { cluster: &cluster, run: Cluster::official, namespace: "official", official: true },
        Kubectl { cluster: &cluster, run: Cluster::ours, namespace: "ours", official: false },
    ] {
        cluster.official(&["create", "namespace", kubectl.namespace]).ok();
        kubectl.until("get serviceaccount default -o name", |out| !out.is_empty());
        applying(&kubectl, &nginx);
        reading(&kubectl);
        changing(&kubectl, &nginx);
        failing(&kubectl);
        removing(&kubectl, &nginx);
        about_the_cluster(&kubectl);
    }
}

fn applying(kubectl: &Kubectl, nginx: &Path) {
    let nginx = nginx.display();
    kubectl.prints(
        &format!("apply -f {nginx} --dry-run=server"),
        "replicationcontroller/nginx created (server dry run)\n",
    );
    kubectl.prints(&format!("apply -f {nginx}"), "replicationcontroller/nginx created\n");
    kubectl.prints(&format!("apply -f {nginx}"), "replicationcontroller/nginx unchanged\n");
    kubectl.prints(
        "wait rc/nginx --for=jsonpath={.status.readyReplicas}=3 --timeout=20s",
        "replicationcontroller/nginx condition met\n",
    );
    kubectl.prints("create configmap settings --from-literal=color=blue", "configmap/settings created\n");
}

fn reading(kubectl: &Kubectl) {
    kubectl.prints("get rc nginx -o name", "replicationcontroller/nginx\n");
    kubectl.prints("get rc nginx -o jsonpath={.spec.replicas}", "3");
    kubectl.prints("get configmap settings -o jsonpath={.data.color}", "blue");
    kubectl.prints("get rc -o custom-columns=NAME:.metadata.name,WANTED:.spec.replicas", "NAME    WANTED\nnginx   3\n");
    let table = kubectl.ok("get rc");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(words(lines[0]), ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]);
    assert_eq!(words(lines[1])[..4], ["nginx", "3", "3", "3"]);
    let wide = kubectl.ok("get pods -l app=nginx -o wide --sort-by=.metadata.name");
    assert_eq!(words(wide.lines().next().unwrap())[..7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
    assert_eq!(wide.lines().count(), 4);
    assert!(wide.lines().skip(1).all(|line| line.contains("1/1") && line.contains("Running")), "{wide}");
    assert_eq!(kubectl.ok("get pods --field-selector=status.phase=Running --no-headers").lines().count(), 3);
    assert!(kubectl.ok("get rc nginx -o yaml").contains("\n  replicas: 3\n"));
    assert!(kubectl.ok("get rc,pods").contains("replicationcontroller/nginx"));
    assert!(kubectl.ok("get pods -A").lines().next().unwrap().starts_with("NAMESPACE"));
    let described = kubectl.ok("describe rc nginx");
    for part in [
        "Name:",
        "app=nginx",
        "3 current / 3 desired",
        "3 Running / 0 Waiting / 0 Succeeded / 0 Failed",
        "SuccessfulCreate",
        "Created pod: nginx-",
    ] {
        assert!(described.contains(part), "no {part:?} in {described}");
    }
    assert!(kubectl.ok("describe pods -l app=nginx").contains("Controlled By:"));
    assert!(kubectl.ok("describe nodes").contains("Allocatable:"));
    assert!(kubectl.ok("logs rc/nginx").contains('\n'));
}

fn changing(kubectl: &Kubectl, nginx: &Path) {
    kubectl.prints("scale rc nginx --replicas=5", "replicationcontroller/nginx scaled\n");
    kubectl.until("get pods -l app=nginx --no-headers", |out| {
        out.lines().filter(|line| line.contains("Running")).count() == 5
    });
    kubectl.prints(&format!("apply -f {}", nginx.display()), "replicationcontroller/nginx configured\n");
    kubectl.until("get pods -l app=nginx --no-headers", |out| out.lines().count() == 3);

    kubectl.prints("label rc nginx tier=web", "replicationcontroller/nginx labeled\n");
    kubectl.fails("label rc nginx tier=other", "--overwrite is false");
    kubectl.prints("label rc nginx tier=other --overwrite", "replicationcontroller/nginx labeled\n");
    kubectl.prints("label rc nginx tier-", "replicationcontroller/nginx unlabeled\n");
    kubectl.prints("annotate rc nginx note=yes", "replicationcontroller/nginx annotated\n");
    kubectl.prints("get rc nginx -o jsonpath={.metadata.annotations.note}", "yes");

    kubectl
        .prints(r#"patch configmap settings --type=merge -p {"data":{"color":"red"}}"#, "configmap/settings patched\n");
    kubectl.prints(
        r#"patch configmap settings --type=json -p [{"op":"add","path":"/data/size","value":"big"}]"#,
        "configmap/settings patched\n",
    );
    kubectl.prints("get configmap settings -o jsonpath={.data}", r#"{"color":"red","size":"big"}"#);
    edit(kubectl);
}

/// An editor that replaces a word.
fn edit(kubectl: &Kubectl) {
    let script = kubectl.cluster.folder().join(format!("editor-{}", kubectl.namespace));
    std::fs::write(&script, "#!/bin/sh\nsed -i 's/color: red/color: green/' \"$1\"\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = if kubectl.official { PathBuf::from("kubectl") } else { files::kubelab() };
    let prefix: &[&str] = if kubectl.official { &[] } else { &["kubectl", "--"] };
    let editor = format!("KUBE_EDITOR={}", script.display());
    let args = [
        &[editor.as_str(), program.to_str().unwrap()],
        prefix,
        &["-n", kubectl.namespace, "edit", "configmap", "settings"],
    ]
    .concat();
    assert_eq!(kubectl.cluster.program(Path::new("env"), &args).ok(), "configmap/settings edited\n");
    kubectl.prints("get configmap settings -o jsonpath={.data.color}", "green");
}

fn failing(kubectl: &Kubectl) {
    kubectl.fails("get pod none", "Error from server (NotFound): pods \"none\" not found");
    kubectl.fails("get poods", "the server doesn't have a resource type \"poods\"");
    kubectl.fails("get pods -o nonsense", "unable to match a printer suitable for the output format \"nonsense\"");
    kubectl.fails("apply -f /no/such/file", "the path \"/no/such/file\" does not exist");
    let bad = kubectl.cluster.folder().join("bad.yaml");
    std::fs::write(&bad, "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: bad}\nspec: {replicas: -1, selector: {a: b}, template: {metadata: {labels: {a: c}}, spec: {containers: []}}}\n").unwrap();
    let error = kubectl.run(&format!("create -f {}", bad.display())).fails_with(1);
    for part in [
        "The ReplicationController \"bad\" is invalid",
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "spec.template.spec.containers: Required value",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    std::fs::write(&bad, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndatas: {}\n").unwrap();
    kubectl.fails(&format!("create -f {}", bad.display()), "unknown field \"datas\"");
    kubectl.fails(
        "wait rc/nginx --for=condition=Never --timeout=100ms",
        "timed out waiting for the condition on replicationcontrollers/nginx",
    );
}

fn removing(kubectl: &Kubectl, nginx: &Path) {
    let deleted = kubectl.ok(&format!("delete -f {}", nginx.display()));
    assert!(deleted.starts_with("replicationcontroller \"nginx\" deleted"), "{deleted}");
    kubectl.until("get pods -l app=nginx -o name", str::is_empty);
    assert!(kubectl.ok("delete configmap settings").starts_with("configmap \"settings\" deleted"));
    kubectl.fails("delete configmap settings", "configmaps \"settings\" not found");
    assert!(
        kubectl.run("get pods").stderr.contains(&format!("No resources found in {} namespace.", kubectl.namespace))
    );
}

fn about_the_cluster(kubectl: &Kubectl) {
    assert!(kubectl.ok("cluster-info").contains("is running at"));
    assert!(kubectl.ok("version").contains("Server Version: v1.36"));
    let resources = kubectl.ok("api-resources");
    let line = resources
        .lines()
        .find(|line| line.starts_with("replicationcontrollers"))
        .expect("replicationcontrollers are listed");
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["replicationcontrollers", "rc", "v1", "true", "ReplicationController"]
    );
}

/// Every verb that needs no node, as the transcripts have it: all of it with the official program, the shared part with ours.
#[test]
fn transcripts() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    let mut failures = Vec::new();
    for (program, whole) in [("official", true), ("ours", false)] {
        for topic in ["create", "apply", "change", "read", "cluster"] {
            let namespace = format!("{topic}-{program}");
            cluster.official(&["create", "namespace", &namespace]).ok();
            until("the namespace's account", SOON, || {
                let ran = cluster.official(&["get", "serviceaccount", "default", "-n", &namespace]);
                if ran.code == Some(0) { Ok(()) } else { Err(ran.stderr) }
            });
            let played = std::panic::catch_unwind(|| play(&cluster, topic, whole, &namespace));
            failures.extend(played.err().and_then(|why| why.downcast::<String>().ok()));
            // Node ports are the cluster's: the next program asks for the same.
            cluster.official(&["delete", "services", "--all", "-n", &namespace]).ok();
        }
    }
    assert!(failures.is_empty(), "{}", failures.iter().map(|why| why.as_str()).collect::<String>());
}

/// Plays a transcript in a folder of its own, with a kubeconfig of its own whose namespace is this one.
fn play(cluster: &Cluster, topic: &str, whole: bool, namespace: &str) {
    let folder = cluster.folder().join(namespace);
    std::fs::create_dir_all(folder.join("bin")).unwrap();
    let config = folder.join("kubeconfig");
    std::fs::copy(cluster.kubeconfig(), &config).unwrap();
    let set =
        ["config", "set-context", "--current", "--namespace", namespace, "--kubeconfig", config.to_str().unwrap()];
    cluster.official(&set).ok();
    if !whole {
        std::os::unix::fs::symlink(files::kubelab(), folder.join("bin/kubectl")).unwrap();
    }
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let transcript = files::root().join(format!("tests/transcripts/{topic}.txt"));
    transcript::play(&transcript, whole, &folder, |command| {
        command.env("PATH", &path).env("KUBECONFIG", &config).env("HOME", &folder).env("NAMESPACE", namespace);
    });
}

/// Ours suggests what one may have meant.
#[test]
fn unknown_things_suggest_the_near_ones() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    for (args, near) in
        [(&["gte", "pods"][..], "\tget"), (&["get", "pds"][..], "\tpods"), (&["get", "serivces"][..], "\tservices")]
    {
        let error = cluster.ours(args).fails_with(1);
        assert!(error.contains("Did you mean this?") && error.contains(near), "{args:?}: {error}");
    }
}

/// A watch prints the present state and then each change.
#[test]
fn watching_prints_changes() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    cluster.official(&["create", "configmap", "a", "--from-literal=k=1"]).ok();
    for command in
        [vec!["kubectl".to_owned()], vec![files::kubelab().display().to_string(), "kubectl".into(), "--".into()]]
    {
        let line = format!("timeout 3 {} get configmaps -w --no-headers; true", command.join(" "));
        let change = "sleep 1; kubectl label configmap a --overwrite seen=$$ >/dev/null";
        let printed = cluster.program(Path::new("sh"), &["-c", &format!("({change}) & {line}; wait")]).ok();
        let rows = printed.lines().filter(|row| row.starts_with("a ")).count();
        assert_eq!(rows, 2, "{printed}");
    }
}
