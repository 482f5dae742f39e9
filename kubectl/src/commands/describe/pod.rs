//! `kubectl describe pod`, and the parts that templates share with pods.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::Related;
use super::page::{Page, selector, time};
use crate::duration::age;
use api::jsonpath::print;

/// Adds the page.
pub fn describe(page: &mut Page, object: &Value, related: &Related) {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    head(page, metadata, spec, status);
    state_of(page, metadata, status, related.now);
    page.field(0, "IP", status["podIP"].as_str().unwrap_or_default());
    if let Some(addresses) = status["podIPs"].as_array().filter(|addresses| !addresses.is_empty()) {
        page.heading(0, "IPs");
        addresses.iter().for_each(|address| page.field(2, "IP", print(&address["ip"])));
    }
    for owner in
        metadata["ownerReferences"].as_array().into_iter().flatten().filter(|owner| owner["controller"] == true)
    {
        page.field(0, "Controlled By", format!("{}/{}", print(&owner["kind"]), print(&owner["name"])));
    }
    if spec["initContainers"].is_array() {
        containers(page, 0, "Init Containers", &spec["initContainers"], &status["initContainerStatuses"]);
    }
    containers(page, 0, "Containers", &spec["containers"], &status["containerStatuses"]);
    page_conditions(page, status);
    volumes(page, 0, &spec["volumes"]);
    page.field(0, "QoS Class", print(&status["qosClass"]));
    page.field(0, "Node-Selectors", selector(&spec["nodeSelector"]));
    tolerations(page, &spec["tolerations"]);
}

fn head(page: &mut Page, metadata: &Value, spec: &Value, status: &Value) {
    page.field(0, "Name", print(&metadata["name"]));
    page.field(0, "Namespace", print(&metadata["namespace"]));
    page.field(0, "Priority", spec["priority"].as_i64().unwrap_or(0).to_string());
    if let Some(class) = spec["priorityClassName"].as_str() {
        page.field(0, "Priority Class Name", class);
    }
    page.field(0, "Service Account", spec["serviceAccountName"].as_str().unwrap_or("default"));
    let node = match spec["nodeName"].as_str() {
        None => "<none>".to_owned(),
        Some(node) => format!("{node}/{}", print(&status["hostIP"])),
    };
    page.field(0, "Node", node);
    if status["startTime"].is_string() {
        page.field(0, "Start Time", time(&status["startTime"]));
    }
    page.map("Labels", &metadata["labels"], "=");
    page.map("Annotations", &metadata["annotations"], ": ");
}

fn state_of(page: &mut Page, metadata: &Value, status: &Value, now: Timestamp) {
    let deleted: Option<Timestamp> = metadata["deletionTimestamp"].as_str().and_then(|text| text.parse().ok());
    match deleted {
        Some(since) => {
            page.field(0, "Status", format!("Terminating (lasts {})", age(since, now)));
            page.field(
                0,
                "Termination Grace Period",
                format!("{}s", metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0)),
            );
        }
        None => page.field(0, "Status", print(&status["phase"])),
    }
    for (name, field) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(text) = status[field].as_str().filter(|text| !text.is_empty()) {
            page.field(0, name, text);
        }
    }
}

/// The containers of a pod or a template, with their states where there are some.
pub fn containers(page: &mut Page, indent: usize, heading: &str, containers: &Value, statuses: &Value) {
    page.heading(indent, heading);
    for container in containers.as_array().into_iter().flatten() {
        let status = statuses
            .as_array()
            .into_iter()
            .flatten()
            .find(|status| status["name"] == container["name"])
            .unwrap_or(&Value::Null);
        page.raw(format!("{}{}:", " ".repeat(indent + 2), print(&container["name"])));
        container_body(page, indent + 4, container, status);
    }
}

fn container_body(page: &mut Page, indent: usize, container: &Value, status: &Value) {
    if status.is_object() {
        page.field(indent, "Container ID", print(&status["containerID"]));
    }
    page.field(indent, "Image", print(&container["image"]));
    if status.is_object() {
        page.field(indent, "Image ID", print(&status["imageID"]));
    }
    let ports: Vec<&Value> = container["ports"].as_array().into_iter().flatten().collect();
    let listed = |number: &str| -> Vec<String> {
        let text = |port: &&Value| {
            format!("{}/{}", port[number].as_i64().unwrap_or(0), port["protocol"].as_str().unwrap_or("TCP"))
        };
        ports.iter().map(text).collect()
    };
    let joined = |list: &[String]| if list.is_empty() { "<none>".to_owned() } else { list.join(", ") };
    page.field(indent, if ports.len() > 1 { "Ports" } else { "Port" }, joined(&listed("containerPort")));
    page.field(indent, if ports.len() > 1 { "Host Ports" } else { "Host Port" }, joined(&listed("hostPort")));
    for (name, field) in [("Command", "command"), ("Args", "args")] {
        if let Some(words) = container[field].as_array() {
            page.heading(indent, name);
            words.iter().for_each(|word| page.raw(format!("{}{}", " ".repeat(indent + 2), print(word))));
        }
    }
    if status.is_object() {
        state(page, indent, "State", &status["state"]);
        if status["lastState"].as_object().is_some_and(|state| !state.is_empty()) {
            state(page, indent, "Last State", &status["lastState"]);
        }
        page.field(indent, "Ready", if status["ready"] == true { "True" } else { "False" });
        page.field(indent, "Restart Count", status["restartCount"].as_i64().unwrap_or(0).to_string());
    }
    for (name, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(resources) = container["resources"][field].as_object() {
            page.heading(indent, name);
            resources.iter().for_each(|(resource, amount)| page.field(indent + 2, resource, print(amount)));
        }
    }
    environment(page, indent, container);
    mounts(page, indent, container);
}

fn state(page: &mut Page, indent: usize, name: &str, state: &Value) {
    if let Some(running) = state.get("running") {
        page.field(indent, name, "Running");
        page.field(indent + 2, "Started", time(&running["startedAt"]));
    } else if let Some(ended) = state.get("terminated") {
        page.field(indent, name, "Terminated");
        for (name, field) in
            [("Reason", "reason"), ("Message", "message"), ("Exit Code", "exitCode"), ("Signal", "signal")]
        {
            if !ended[field].is_null() {
                page.field(indent + 2, name, print(&ended[field]));
            }
        }
        page.field(indent + 2, "Started", time(&ended["startedAt"]));
        page.field(indent + 2, "Finished", time(&ended["finishedAt"]));
    } else {
        page.field(indent, name, "Waiting");
        if let Some(reason) = state["waiting"]["reason"].as_str() {
            page.field(indent + 2, "Reason", reason);
        }
    }
}

fn environment(page: &mut Page, indent: usize, container: &Value) {
    let variables = container["env"].as_array().cloned().unwrap_or_default();
    if variables.is_empty() {
        page.field(indent, "Environment", "<none>");
        return;
    }
    page.heading(indent, "Environment");
    for variable in &variables {
        let from = &variable["valueFrom"];
        let reference = |kind: &str, what: &str| {
            format!("<set to the key '{}' in {what} '{}'>", print(&from[kind]["key"]), print(&from[kind]["name"]))
        };
        let value = if from["fieldRef"].is_object() {
            format!(
                "({}:{})",
                from["fieldRef"]["apiVersion"].as_str().unwrap_or("v1"),
                print(&from["fieldRef"]["fieldPath"])
            )
        } else if from["secretKeyRef"].is_object() {
            reference("secretKeyRef", "secret")
        } else if from["configMapKeyRef"].is_object() {
            reference("configMapKeyRef", "config map")
        } else {
            print(&variable["value"])
        };
        page.field(indent + 2, &print(&variable["name"]), value);
    }
}

fn mounts(page: &mut Page, indent: usize, container: &Value) {
    let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
    if mounts.is_empty() {
        page.field(indent, "Mounts", "<none>");
        return;
    }
    page.heading(indent, "Mounts");
    for mount in &mounts {
        let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
        page.raw(format!(
            "{}{} from {} ({mode})",
            " ".repeat(indent + 2),
            print(&mount["mountPath"]),
            print(&mount["name"])
        ));
    }
}

fn page_conditions(page: &mut Page, status: &Value) {
    let Some(conditions) = status["conditions"].as_array().filter(|conditions| !conditions.is_empty()) else { return };
    page.heading(0, "Conditions");
    let mut rows = vec![vec!["Type".to_owned(), "Status".to_owned()]];
    rows.extend(conditions.iter().map(|condition| vec![print(&condition["type"]), print(&condition["status"])]));
    page.table(2, &rows, 2);
}

/// The volumes of a pod or a template.
pub fn volumes(page: &mut Page, indent: usize, volumes: &Value) {
    let volumes = volumes.as_array().cloned().unwrap_or_default();
    if volumes.is_empty() {
        page.field(indent, "Volumes", "<none>");
        return;
    }
    page.heading(indent, "Volumes");
    for volume in &volumes {
        page.raw(format!("{}{}:", " ".repeat(indent + 2), print(&volume["name"])));
        let source = volume.as_object().into_iter().flatten().find(|(field, _)| *field != "name");
        let Some((kind, source)) = source else { continue };
        page.field(indent + 4, "Type", volume_type(kind));
        for (field, value) in source.as_object().into_iter().flatten() {
            if value.is_string() || value.is_number() || value.is_boolean() {
                page.field(indent + 4, &capitalized(field), print(value));
            }
        }
    }
}

fn volume_type(kind: &str) -> String {
    match kind {
        "emptyDir" => "EmptyDir (a temporary directory that shares a pod's lifetime)".to_owned(),
        "hostPath" => "HostPath (bare host directory volume)".to_owned(),
        "configMap" => "ConfigMap (a volume populated by a ConfigMap)".to_owned(),
        "secret" => "Secret (a volume populated by a Secret)".to_owned(),
        "projected" => "Projected (a volume that contains injected data from multiple sources)".to_owned(),
        "downwardAPI" => "DownwardAPI (a volume populated by information about the pod)".to_owned(),
        "persistentVolumeClaim" => {
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)".to_owned()
        }
        other => capitalized(other),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn tolerations(page: &mut Page, tolerations: &Value) {
    let texts: Vec<String> = tolerations
        .as_array()
        .into_iter()
        .flatten()
        .map(|toleration| {
            let mut text = toleration["key"].as_str().unwrap_or_default().to_owned();
            if let Some(value) = toleration["value"].as_str().filter(|value| !value.is_empty()) {
                text += &format!("={value}");
            }
            if let Some(effect) = toleration["effect"].as_str() {
                text += &format!(":{effect}");
            }
            if toleration["operator"] == "Exists" {
                text += if text.is_empty() { "op=Exists" } else { " op=Exists" };
            }
            if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
                text += &format!(" for {seconds}s");
            }
            text
        })
        .collect();
    match texts.split_first() {
        None => page.field(0, "Tolerations", "<none>"),
        Some((first, rest)) => {
            page.field(0, "Tolerations", first.clone());
            rest.iter().for_each(|text| page.field(0, "", text.clone()));
        }
    }
}
