//! Tables for [`super::derive`].

use serde_json::{Value, json};

use super::*;
use crate::view::{ContainerView, Exit, RunState, SandboxView};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a small number")
}

fn pod(spec: Value, status: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 1});
    serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).expect("a pod")
}

fn sandbox() -> SandboxView {
    SandboxView {
        id: "s".into(),
        attempt: 0,
        ready: true,
        created_at: at(1),
        ips: vec!["10.0.0.2".into()],
        host_network: false,
    }
}

fn run(name: &str, state: RunState) -> ContainerView {
    ContainerView {
        id: format!("id-{name}"),
        sandbox_id: "s".into(),
        name: name.into(),
        restart_count: 0,
        hash: String::new(),
        image: "i:latest".into(),
        image_id: "sha256:1".into(),
        created_at: at(2),
        state,
        log_path: String::new(),
    }
}

fn up(name: &str) -> ContainerView {
    run(name, RunState::Running { started_at: at(3) })
}

fn ended(name: &str, code: i32) -> ContainerView {
    let exit = Exit { started_at: at(3), finished_at: at(4), code, reason: String::new(), message: String::new() };
    run(name, RunState::Exited(exit))
}

fn status(pod: &Pod, containers: Vec<ContainerView>, waiting: &[(&str, &str)], over: bool) -> PodStatus {
    let sandboxes = if containers.is_empty() { vec![] } else { vec![sandbox()] };
    let view = PodView { sandboxes, containers };
    let waiting = waiting
        .iter()
        .map(|(name, reason)| ((*name).into(), Waiting { reason: (*reason).into(), message: "m".into() }))
        .collect();
    derive(&Input {
        pod,
        view: &view,
        healths: &Healths::default(),
        waiting: &waiting,
        failed: None,
        ended: over,
        host_ips: &["192.168.0.1".into()],
        now: at(100),
    })
}

fn condition(status: &PodStatus, name: &str) -> String {
    let found = status.conditions.iter().flatten().find(|one| one.type_ == name).expect("the condition");
    let detail = [found.reason.as_deref(), found.message.as_deref()];
    let detail: Vec<&str> = detail.into_iter().flatten().collect();
    format!("{} {}", found.status, detail.join(": ")).trim().to_owned()
}

#[test]
fn phases() {
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]});
    let table = [
        ("nothing yet", "Always", vec![], false, "Pending"),
        ("one up", "Always", vec![up("a")], false, "Pending"),
        ("both up", "Always", vec![up("a"), up("b")], false, "Running"),
        ("one ended", "Always", vec![up("a"), ended("b", 1)], false, "Running"),
        ("both ended", "Always", vec![ended("a", 0), ended("b", 0)], false, "Running"),
        ("both well", "OnFailure", vec![ended("a", 0), ended("b", 0)], false, "Succeeded"),
        ("one failed", "OnFailure", vec![ended("a", 0), ended("b", 1)], false, "Running"),
        ("one failed", "Never", vec![ended("a", 0), ended("b", 1)], false, "Failed"),
        ("both well", "Never", vec![ended("a", 0), ended("b", 0)], true, "Succeeded"),
        ("killed", "Always", vec![ended("a", 0), ended("b", 137)], true, "Failed"),
        ("stopped well", "Always", vec![ended("a", 0), ended("b", 0)], true, "Succeeded"),
    ];
    for (name, policy, containers, over, expected) in table {
        let pod = pod(two(policy), json!({}));
        assert_eq!(status(&pod, containers, &[], over).phase.as_deref(), Some(expected), "{name} ({policy})");
    }
}

#[test]
fn a_final_phase_stays() {
    let pod =
        pod(json!({"containers": [{"name": "a", "image": "i"}]}), json!({"phase": "Failed", "reason": "Evicted"}));
    let status = status(&pod, vec![up("a")], &[], false);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

#[test]
fn a_running_pod() {
    let gate = json!({"type": "other", "status": "True"});
    let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}), json!({"conditions": [gate]}));
    let status = status(&pod, vec![up("a")], &[], false);
    let container = &status.container_statuses.as_ref().expect("a list")[0];
    assert_eq!(container.container_id.as_deref(), Some("kubelab://id-a"));
    assert!(container.ready && container.started == Some(true));
    assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.0.0.2"), Some("192.168.0.1")));
    assert_eq!(status.start_time, Some(Time(at(100))));
    for name in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "other"] {
        assert_eq!(condition(&status, name), "True", "{name}");
    }
}

#[test]
fn waiting_containers() {
    let pod = pod(
        json!({"initContainers": [{"name": "x", "image": "i"}], "containers": [{"name": "a", "image": "i"}]}),
        json!({}),
    );
    let state = |status: &PodStatus| {
        let state = status.container_statuses.as_ref().expect("a list")[0].state.clone().expect("a state");
        state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default()
    };
    let fresh = status(&pod, vec![], &[], false);
    assert_eq!(state(&fresh), "PodInitializing");
    assert_eq!(
        condition(&fresh, "Initialized"),
        "False ContainersNotInitialized: containers with incomplete status: [x]"
    );
    assert_eq!(condition(&fresh, "Ready"), "False ContainersNotReady: containers with unready status: [a]");
    let pulled = status(&pod, vec![ended("x", 0)], &[("a", "ErrImagePull")], false);
    assert_eq!(state(&pulled), "ErrImagePull");
    assert_eq!(condition(&pulled, "Initialized"), "True");
    let looping = status(&pod, vec![ended("x", 0), ended("a", 1)], &[("a", "CrashLoopBackOff")], false);
    assert_eq!(state(&looping), "CrashLoopBackOff");
    let last = looping.container_statuses.as_ref().expect("a list")[0].last_state.clone().expect("a last state");
    assert_eq!(last.terminated.map(|end| (end.exit_code, end.reason)), Some((1, Some("Error".into()))));
    assert_eq!(looping.phase.as_deref(), Some("Running"));
}

#[test]
fn transition_times_change_with_the_status_only() {
    let spec = json!({"containers": [{"name": "a", "image": "i"}]});
    let first = status(&pod(spec.clone(), json!({})), vec![], &[], false);
    let mut known = pod(spec, json!({}));
    known.status = Some(first);
    known.status.as_mut().and_then(|s| s.conditions.as_mut()).expect("conditions").iter_mut().for_each(|condition| {
        condition.last_transition_time = Some(Time(at(50)));
    });
    let second = status(&known, vec![up("a")], &[], false);
    let since = |name: &str| {
        let found = second.conditions.iter().flatten().find(|one| one.type_ == name).expect("the condition");
        found.last_transition_time.clone().expect("a time").0.as_second()
    };
    assert_eq!((since("Ready"), since("Initialized")), (100, 50));
}

#[test]
fn a_container_that_got_lost_is_said_to_be_unknown() {
    let known = json!({"containerStatuses": [{"name": "a", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "containerID": "kubelab://old", "state": {"running": {}}}]});
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}), known);
    let status = status(&pod, vec![], &[], true);
    let end = status.container_statuses.as_ref().expect("a list")[0].state.clone().and_then(|state| state.terminated);
    assert_eq!(end.and_then(|end| end.reason).as_deref(), Some("ContainerStatusUnknown"));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}
