//! `kubectl describe node`.

use serde_json::Value;

use super::Related;
use super::page::{Page, time};
use crate::duration::age;
use api::jsonpath::print;

/// Adds the page.
pub fn describe(page: &mut Page, object: &Value, related: &Related) {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    page.field(0, "Name", print(&metadata["name"]));
    page.field(0, "Roles", roles(metadata));
    page.map("Labels", &metadata["labels"], "=");
    page.map("Annotations", &metadata["annotations"], ": ");
    page.field(0, "CreationTimestamp", time(&metadata["creationTimestamp"]));
    taints(page, spec);
    page.field(0, "Unschedulable", (spec["unschedulable"] == true).to_string());
    lease(page, &related.lease);
    conditions(page, status);
    page.heading(0, "Addresses");
    for address in status["addresses"].as_array().into_iter().flatten() {
        page.field(2, &print(&address["type"]), print(&address["address"]));
    }
    for (name, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        page.heading(0, name);
        status[field]
            .as_object()
            .into_iter()
            .flatten()
            .for_each(|(resource, amount)| page.field(2, resource, print(amount)));
    }
    system_info(page, &status["nodeInfo"]);
    for (name, field) in [("PodCIDR", "podCIDR"), ("ProviderID", "providerID")] {
        if let Some(text) = spec[field].as_str() {
            page.field(0, name, text);
        }
    }
    pods(page, related);
}

fn roles(metadata: &Value) -> String {
    let labels = metadata["labels"].as_object();
    let roles: Vec<&str> =
        labels.into_iter().flatten().filter_map(|(label, _)| label.strip_prefix("node-role.kubernetes.io/")).collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn taints(page: &mut Page, spec: &Value) {
    let taints: Vec<String> = spec["taints"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|taint| {
            let value = taint["value"]
                .as_str()
                .filter(|value| !value.is_empty())
                .map(|value| format!("={value}"))
                .unwrap_or_default();
            format!("{}{value}:{}", print(&taint["key"]), print(&taint["effect"]))
        })
        .collect();
    match taints.split_first() {
        None => page.field(0, "Taints", "<none>"),
        Some((first, rest)) => {
            page.field(0, "Taints", first.clone());
            rest.iter().for_each(|taint| page.field(0, "", taint.clone()));
        }
    }
}

fn lease(page: &mut Page, lease: &Value) {
    page.heading(0, "Lease");
    let spec = &lease["spec"];
    page.field(2, "HolderIdentity", spec["holderIdentity"].as_str().unwrap_or("<unset>"));
    page.field(2, "AcquireTime", time(&spec["acquireTime"]));
    page.field(2, "RenewTime", time(&spec["renewTime"]));
}

fn conditions(page: &mut Page, status: &Value) {
    page.heading(0, "Conditions");
    let headings = ["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"];
    let mut rows =
        vec![headings.map(str::to_owned).to_vec(), headings.map(|heading| "-".repeat(heading.len())).to_vec()];
    rows.extend(status["conditions"].as_array().into_iter().flatten().map(|condition| {
        vec![
            print(&condition["type"]),
            print(&condition["status"]),
            time(&condition["lastHeartbeatTime"]),
            time(&condition["lastTransitionTime"]),
            print(&condition["reason"]),
            print(&condition["message"]),
        ]
    }));
    page.table(2, &rows, 3);
}

fn system_info(page: &mut Page, info: &Value) {
    page.heading(0, "System Info");
    for (name, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        page.field(2, name, print(&info[field]));
    }
}

fn pods(page: &mut Page, related: &Related) {
    let active: Vec<&Value> = related
        .pods
        .iter()
        .filter(|pod| !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default()))
        .collect();
    page.field(0, "Non-terminated Pods", format!("({} in total)", active.len()));
    let headings = ["Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age"];
    let mut rows =
        vec![headings.map(str::to_owned).to_vec(), headings.map(|heading| "-".repeat(heading.len())).to_vec()];
    for pod in active {
        let metadata = &pod["metadata"];
        let created = metadata["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let amount = |kind: &str, resource: &str| total(pod, kind, resource);
        rows.push(vec![
            print(&metadata["namespace"]),
            print(&metadata["name"]),
            amount("requests", "cpu"),
            amount("limits", "cpu"),
            amount("requests", "memory"),
            amount("limits", "memory"),
            created.map(|created| age(created, related.now)).unwrap_or_default(),
        ]);
    }
    page.table(2, &rows, 2);
}

/// What the pod's containers ask for together.
fn total(pod: &Value, kind: &str, resource: &str) -> String {
    let containers = pod["spec"]["containers"].as_array();
    let amounts =
        containers.into_iter().flatten().filter_map(|container| container["resources"][kind][resource].as_str());
    let parsed: Vec<_> = amounts.filter_map(|amount| api::quantity::Quantity::parse(amount).ok()).collect();
    match parsed.split_first() {
        None => "0".to_owned(),
        Some((first, rest)) => rest.iter().fold(*first, |sum, amount| sum + *amount).to_string(),
    }
}
