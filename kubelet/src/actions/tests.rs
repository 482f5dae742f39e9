//! Tables for [`super::compute`]: a pod, what the runtime has of it, and what must be done.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::health::Health;
use crate::view::{Exit, SandboxView};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a small number")
}

fn pod(spec: serde_json::Value) -> Pod {
    let value = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
    serde_json::from_value(value).expect("a pod")
}

fn simple(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}))
}

fn with_inits() -> Pod {
    pod(json!({
        "initContainers": [
            {"name": "one", "image": "i"},
            {"name": "side", "image": "i", "restartPolicy": "Always"},
            {"name": "two", "image": "i"}
        ],
        "containers": [{"name": "a", "image": "i"}]
    }))
}

fn sandbox(ready: bool) -> SandboxView {
    SandboxView {
        id: "s".into(),
        attempt: 0,
        ready,
        created_at: at(1),
        ips: vec!["10.0.0.2".into()],
        host_network: false,
    }
}

fn run(name: &str, count: u32, state: RunState) -> ContainerView {
    ContainerView {
        id: format!("{name}{count}"),
        sandbox_id: "s".into(),
        name: name.into(),
        restart_count: count,
        hash: String::new(),
        image: "i".into(),
        image_id: "i".into(),
        created_at: at(10 + i64::from(count)),
        state,
        log_path: String::new(),
    }
}

fn running(name: &str) -> ContainerView {
    run(name, 0, RunState::Running { started_at: at(10) })
}

fn exited(name: &str, count: u32, code: i32) -> ContainerView {
    let exit = Exit { started_at: at(10), finished_at: at(20), code, reason: String::new(), message: String::new() };
    run(name, count, RunState::Exited(exit))
}

fn view(sandboxes: Vec<SandboxView>, containers: Vec<ContainerView>) -> PodView {
    let mut view = PodView { sandboxes, containers };
    view.sort();
    view
}

fn decide(pod: &Pod, view: &PodView) -> Actions {
    let (healths, backoffs) = (Healths::default(), Backoffs::default());
    compute(&Input { pod, view, healths: &healths, backoffs: &backoffs, now: at(21) })
}

/// A short form of what was decided, for the tables.
fn summary(actions: &Actions) -> String {
    let mut words = Vec::new();
    words.extend(actions.kill.iter().map(|kill| format!("kill:{}", kill.id)));
    words.extend(actions.stop_sandboxes.iter().map(|id| format!("stop:{id}")));
    if let SandboxAction::Create { attempt } = actions.sandbox {
        words.push(format!("sandbox:{attempt}"));
    }
    words.extend(actions.start.iter().map(|start| format!("start:{}#{}", start.name, start.restart_count)));
    words.extend(actions.remove_containers.iter().map(|id| format!("rm:{id}")));
    words.extend(actions.remove_sandboxes.iter().map(|id| format!("rms:{id}")));
    if actions.completed {
        words.push("completed".into());
    }
    words.join(" ")
}

#[test]
fn regular_containers() {
    let up = || vec![sandbox(true)];
    let table = [
        ("new", "Always", view(vec![], vec![]), "sandbox:0 start:a#0 start:b#0"),
        ("sandbox only", "Always", view(up(), vec![]), "start:a#0 start:b#0"),
        ("all run", "Always", view(up(), vec![running("a"), running("b")]), ""),
        ("one ended", "Always", view(up(), vec![exited("a", 0, 0), running("b")]), "start:a#1"),
        ("one ended well", "OnFailure", view(up(), vec![exited("a", 0, 0), running("b")]), ""),
        ("one failed", "OnFailure", view(up(), vec![exited("a", 3, 1), running("b")]), "start:a#4"),
        ("one failed", "Never", view(up(), vec![exited("a", 0, 1), running("b")]), ""),
        ("all ended", "Never", view(up(), vec![exited("a", 0, 1), exited("b", 0, 0)]), "completed"),
        ("all ended well", "OnFailure", view(up(), vec![exited("a", 0, 0), exited("b", 0, 0)]), "completed"),
        (
            "sandbox died",
            "Always",
            view(vec![sandbox(false)], vec![running("a"), exited("b", 0, 137)]),
            "kill:a0 sandbox:1 start:b#1",
        ),
        ("sandbox died", "Never", view(vec![sandbox(false)], vec![exited("a", 0, 1), exited("b", 0, 0)]), "completed"),
        (
            "old runs",
            "Always",
            view(up(), vec![exited("a", 0, 1), exited("a", 1, 1), exited("a", 2, 1), running("b")]),
            "start:a#3 rm:a0",
        ),
    ];
    for (name, policy, view, expected) in table {
        assert_eq!(summary(&decide(&simple(policy), &view)), expected, "{name} ({policy})");
    }
}

#[test]
fn init_containers_go_in_order() {
    let up = || vec![sandbox(true)];
    let table = [
        (view(vec![], vec![]), "sandbox:0 start:one#0"),
        (view(up(), vec![running("one")]), ""),
        (view(up(), vec![exited("one", 0, 1)]), "start:one#1"),
        (view(up(), vec![exited("one", 0, 0)]), "start:side#0"),
        (view(up(), vec![exited("one", 0, 0), running("side")]), "start:two#0"),
        (view(up(), vec![exited("one", 0, 0), exited("side", 0, 1), running("two")]), "start:side#1"),
        (view(up(), vec![exited("one", 0, 0), running("side"), exited("two", 0, 0)]), "start:a#0"),
        (view(up(), vec![exited("one", 0, 0), running("side"), exited("two", 0, 0), running("a")]), ""),
        (
            view(up(), vec![exited("one", 0, 0), exited("side", 0, 0), exited("two", 0, 0), running("a")]),
            "start:side#1",
        ),
    ];
    for (index, (view, expected)) in table.into_iter().enumerate() {
        assert_eq!(summary(&decide(&with_inits(), &view)), expected, "row {index}");
    }
}

#[test]
fn a_failed_init_container_of_a_never_pod_is_the_end() {
    let mut never = with_inits();
    never.spec.as_mut().expect("a spec").restart_policy = Some("Never".into());
    let actions = decide(&never, &view(vec![sandbox(true)], vec![exited("one", 0, 1)]));
    assert_eq!(summary(&actions), "completed");
    let actions = decide(&never, &view(vec![sandbox(false)], vec![exited("one", 0, 1)]));
    assert_eq!(summary(&actions), "completed");
}

#[test]
fn sidecars_do_not_keep_a_finished_pod_alive() {
    let mut never = with_inits();
    never.spec.as_mut().expect("a spec").restart_policy = Some("Never".into());
    let containers = vec![exited("one", 0, 0), running("side"), exited("two", 0, 0), exited("a", 0, 0)];
    assert_eq!(summary(&decide(&never, &view(vec![sandbox(true)], containers))), "completed");
}

#[test]
fn a_crash_loop_waits() {
    let pod = simple("Always");
    let view = view(vec![sandbox(true)], vec![exited("a", 1, 1), running("b")]);
    let mut backoffs = Backoffs::default();
    let member = members(&pod).remove(0);
    backoffs.advance(&backoff_key(&member), at(5), at(5));
    let healths = Healths::default();
    let decide = |now| compute(&Input { pod: &pod, view: &view, healths: &healths, backoffs: &backoffs, now });
    let early = decide(at(21));
    assert_eq!(summary(&early), "");
    assert_eq!(early.wake_at, Some(at(30)));
    assert_eq!(early.backing_off[0].message, "back-off 10s restarting failed container=a pod=p_ns(u)");
    assert_eq!(summary(&decide(at(30))), "start:a#2");
}

#[test]
fn unhealthy_and_changed_containers_are_killed() {
    let pod = pod(json!({"containers": [
        {"name": "a", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 3}}
    ]}));
    let mut containers = vec![running("a")];
    let (mut healths, backoffs) = (Healths::default(), Backoffs::default());
    healths.0.insert("a0".into(), Health { liveness: Verdict::Failure, ..Health::default() });
    let up = view(vec![sandbox(true)], containers.clone());
    let actions = compute(&Input { pod: &pod, view: &up, healths: &healths, backoffs: &backoffs, now: at(21) });
    assert_eq!(actions.kill[0].message, "Container a failed liveness probe, will be restarted");
    assert_eq!(actions.kill[0].grace_seconds, Some(3));
    containers[0].hash = "other".into();
    let actions = decide(&pod, &view(vec![sandbox(true)], containers));
    assert_eq!(actions.kill[0].message, "Container a definition changed, will be restarted");
}

#[test]
fn restart_rules_of_a_container_win() {
    let pod =
        pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}));
    let ended = |code| view(vec![sandbox(true)], vec![exited("a", 0, code)]);
    assert_eq!(summary(&decide(&pod, &ended(42))), "start:a#1");
    assert_eq!(summary(&decide(&pod, &ended(1))), "completed");
}
