//! `kubectl describe service`.

use serde_json::Value;

use super::Related;
use super::page::{Page, selector};
use api::jsonpath::print;

/// Adds the page.
pub fn describe(page: &mut Page, object: &Value, related: &Related) {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    page.field(0, "Name", print(&metadata["name"]));
    page.field(0, "Namespace", print(&metadata["namespace"]));
    page.map("Labels", &metadata["labels"], "=");
    page.map("Annotations", &metadata["annotations"], ": ");
    page.field(0, "Selector", selector(&spec["selector"]));
    page.field(0, "Type", print(&spec["type"]));
    page.field(0, "IP Family Policy", spec["ipFamilyPolicy"].as_str().unwrap_or("<none>"));
    page.field(0, "IP Families", joined(&spec["ipFamilies"]));
    page.field(0, "IP", spec["clusterIP"].as_str().unwrap_or("<none>"));
    page.field(0, "IPs", joined(&spec["clusterIPs"]));
    if let Some(name) = spec["externalName"].as_str() {
        page.field(0, "External Name", name);
    }
    for port in spec["ports"].as_array().into_iter().flatten() {
        let (name, protocol) = (port["name"].as_str().unwrap_or("<unset>"), print(&port["protocol"]));
        page.field(0, "Port", format!("{name}  {}/{protocol}", print(&port["port"])));
        page.field(0, "TargetPort", format!("{}/{protocol}", print(&port["targetPort"])));
        if port["nodePort"].is_number() {
            page.field(0, "NodePort", format!("{name}  {}/{protocol}", print(&port["nodePort"])));
        }
        page.field(0, "Endpoints", endpoints(related, port));
    }
    page.field(0, "Session Affinity", print(&spec["sessionAffinity"]));
    if let Some(policy) = spec["externalTrafficPolicy"].as_str() {
        page.field(0, "External Traffic Policy", policy);
    }
    if let Some(policy) = spec["internalTrafficPolicy"].as_str() {
        page.field(0, "Internal Traffic Policy", policy);
    }
}

fn joined(list: &Value) -> String {
    let texts: Vec<String> = list.as_array().into_iter().flatten().map(print).collect();
    if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") }
}

/// Ready addresses for a port; the first three, then how many more.
fn endpoints(related: &Related, port: &Value) -> String {
    let mut found = Vec::new();
    for slice in &related.slices {
        let name = port["name"].as_str().unwrap_or_default();
        let number = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|candidate| candidate["name"].as_str().unwrap_or_default() == name);
        for endpoint in slice["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        {
            for address in endpoint["addresses"].as_array().into_iter().flatten() {
                found.push(
                    number.map_or_else(
                        || print(address),
                        |number| format!("{}:{}", print(address), print(&number["port"])),
                    ),
                );
            }
        }
    }
    found.sort();
    match found.len() {
        0 => String::new(),
        1..=3 => found.join(","),
        many => format!("{} + {} more...", found[..3].join(","), many - 3),
    }
}
