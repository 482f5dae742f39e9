//! Discovery: what this server serves, as the legacy documents and as the aggregated one, made from the table of kinds.
//!
//! All functions are pure; a CustomResourceDefinition appears as soon as its row is in [`Served`]. Reference:
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::aggregation::Remote;
use crate::resources::{ResourceInfo, Served, Strategy, Subresource, priorities};

/// The media type of the aggregated form.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// The same in YAML.
pub const AGGREGATED_YAML: &str = "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The same in protobuf.
pub const AGGREGATED_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What tells one state of the aggregated document from another, whatever the format.
pub fn etag(document: &Value) -> String {
    let digest = Sha512::digest(document.to_string());
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `GET /api`.
pub fn legacy_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `GET /apis`.
pub fn group_list(served: &Served, remotes: &[Remote]) -> Value {
    let groups: Vec<Value> =
        group_names(served, remotes).iter().map(|group| group_entry(served, remotes, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/GROUP`; None for a group that is not served.
pub fn group(served: &Served, remotes: &[Remote], group: &str) -> Option<Value> {
    if versions(served, remotes, group).is_empty() {
        return None;
    }
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    let entry = group_entry(served, remotes, group);
    document.as_object_mut()?.extend(entry.as_object()?.clone());
    Some(document)
}

/// `GET /api/v1`, `GET /apis/GROUP/VERSION`; None for what is not served.
pub fn resource_list(served: &Served, group: &str, version: &str) -> Option<Value> {
    let rows = rows_of(served, group, version);
    if rows.is_empty() {
        return None;
    }
    let mut document = json!({"kind": "APIResourceList"});
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
        document["groupVersion"] = format!("{group}/{version}").into();
    } else {
        document["groupVersion"] = version.into();
    }
    let resources: Vec<Value> = rows.iter().flat_map(|row| legacy_entries(row.as_ref())).collect();
    document["resources"] = resources.into();
    Some(document)
}

/// `GET /api` and `GET /apis` in the aggregated form.
pub fn aggregated(served: &Served, remotes: &[Remote], core: bool) -> Value {
    let groups = if core { vec![String::new()] } else { group_names(served, remotes) };
    let items: Vec<Value> = groups.iter().map(|group| aggregated_group(served, remotes, group)).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

/// All groups but the core one: by priority, then by name.
fn group_names(served: &Served, remotes: &[Remote]) -> Vec<String> {
    let mut names: Vec<String> = served.rows().iter().map(|row| row.info().group.clone()).collect();
    names.extend(remotes.iter().map(|remote| remote.group.clone()));
    names.retain(|group| !group.is_empty());
    let rank = |name: &String| {
        let remote = remotes.iter().filter(|remote| remote.group == *name).map(|remote| remote.group_priority).max();
        let own = served.rows().iter().any(|row| row.info().group == *name).then(|| priorities::of_group(name));
        Reverse(remote.max(own))
    };
    names.sort_by_cached_key(|name| (rank(name), name.clone()));
    names.dedup();
    names
}

/// Versions of a group, the preferred one first: by priority; then stable before beta before alpha, higher before lower.
fn versions(served: &Served, remotes: &[Remote], group: &str) -> Vec<String> {
    let rows = served.rows().iter().filter(|row| row.info().group == group);
    let own = rows.map(|row| {
        let version = row.info().version.clone();
        (priorities::of(group, &version).unwrap_or(priorities::CUSTOM).version, version)
    });
    let others = remotes.iter().filter(|remote| remote.group == group);
    let others = others.map(|remote| (remote.version_priority, remote.version.clone()));
    let mut versions: Vec<(i32, String)> = own.chain(others).collect();
    versions.sort_by(|one, other| {
        (Reverse(one.0), Reverse(version_rank(&one.1)), &one.1).cmp(&(
            Reverse(other.0),
            Reverse(version_rank(&other.1)),
            &other.1,
        ))
    });
    let mut versions: Vec<String> = versions.into_iter().map(|(_, version)| version).collect();
    versions.dedup();
    versions
}

/// How a version ranks: stability (2 stable, 1 beta, 0 alpha), then the numbers. Anything that is no Kubernetes version ranks last.
pub fn version_rank(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let (stability, minor) = match &rest[digits..] {
        "" => (2, "0"),
        suffix => match (suffix.strip_prefix("beta"), suffix.strip_prefix("alpha")) {
            (Some(minor), _) => (1, minor),
            (_, Some(minor)) => (0, minor),
            (None, None) => return None,
        },
    };
    Some((stability, major, minor.parse().ok()?))
}

fn group_entry(served: &Served, remotes: &[Remote], group: &str) -> Value {
    let entry = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<Value> = versions(served, remotes, group).iter().map(entry).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// The rows of a group and version by the plural of the resource.
fn rows_of<'a>(served: &'a Served, group: &str, version: &str) -> Vec<&'a std::sync::Arc<dyn Strategy>> {
    let matching = served.rows().iter().filter(|row| row.info().group == group && row.info().version == version);
    let by_plural: BTreeMap<&str, _> = matching.map(|row| (row.info().plural.as_str(), row)).collect();
    by_plural.into_values().collect()
}

/// What may be done with the resource itself: by name, or in the order in which upstream lists it for custom resources.
fn verbs(row: &dyn Strategy) -> Vec<&'static str> {
    if row.computed() {
        return vec!["get", "list"];
    }
    if !row.info().stored {
        return vec!["create"];
    }
    if row.info().custom {
        return vec!["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    }
    let mut verbs = vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    verbs.retain(|verb| *verb != "deletecollection" || row.delete_collection());
    verbs
}

fn legacy_entries(row: &dyn Strategy) -> Vec<Value> {
    let info = row.info();
    let mut entry = json!({
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": verbs(row),
    });
    if !info.short_names.is_empty() {
        entry["shortNames"] = info.short_names.clone().into();
    }
    if !info.categories.is_empty() {
        entry["categories"] = info.categories.clone().into();
    }
    if info.stored {
        entry["storageVersionHash"] = storage_version_hash(info).into();
    }
    let mut entries = vec![entry];
    for subresource in sorted(info) {
        let Described { name, kind, verbs, group_version } = describe(subresource, info);
        let mut entry = json!({
            "name": format!("{}/{name}", info.plural),
            "singularName": "",
            "namespaced": info.namespaced,
            "kind": kind,
            "verbs": verbs,
        });
        if let Some((group, version)) = group_version {
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        entries.push(entry);
    }
    entries
}

fn aggregated_group(served: &Served, remotes: &[Remote], group: &str) -> Value {
    let version = |version: &String| {
        let rows = rows_of(served, group, version);
        if rows.is_empty() {
            // Another server's, which was not asked.
            return json!({"version": version, "freshness": "Stale"});
        }
        let resources: Vec<Value> = rows.iter().map(|row| aggregated_resource(row.as_ref())).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let versions: Vec<Value> = versions(served, remotes, group).iter().map(version).collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(row: &dyn Strategy) -> Value {
    let info = row.info();
    let mut entry = json!({
        "resource": info.plural,
        "responseKind": {"group": "", "version": "", "kind": info.kind},
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": verbs(row),
    });
    if !info.short_names.is_empty() {
        entry["shortNames"] = info.short_names.clone().into();
    }
    if !info.categories.is_empty() {
        entry["categories"] = info.categories.clone().into();
    }
    let subresource = |subresource| {
        let Described { name, kind, verbs, group_version } = describe(subresource, info);
        let (group, version) = group_version.unwrap_or(("", ""));
        json!({"subresource": name, "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs})
    };
    let subresources: Vec<Value> = sorted(info).into_iter().map(subresource).collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

/// A subresource as discovery names it. The group and version are those of its kind where they are not the parent's.
struct Described {
    name: &'static str,
    kind: String,
    verbs: &'static [&'static str],
    group_version: Option<(&'static str, &'static str)>,
}

fn sorted(info: &ResourceInfo) -> Vec<Subresource> {
    let mut subresources = info.subresources.clone();
    if info.custom {
        return subresources;
    }
    subresources.sort_by_key(|subresource| describe(*subresource, info).name);
    subresources
}

fn describe(subresource: Subresource, info: &ResourceInfo) -> Described {
    const OBJECT: &[&str] = &["get", "patch", "update"];
    const STREAM: &[&str] = &["create", "get"];
    const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    const CREATE: &[&str] = &["create"];
    let own = info.kind.clone();
    let described = |name, kind: &str, verbs| Described { name, kind: kind.to_owned(), verbs, group_version: None };
    let foreign = |name, kind: &str, verbs, group_version| Described {
        name,
        kind: kind.to_owned(),
        verbs,
        group_version: Some(group_version),
    };
    match subresource {
        Subresource::Status => described("status", &own, OBJECT),
        Subresource::Scale => foreign("scale", "Scale", OBJECT, ("autoscaling", "v1")),
        Subresource::Binding => described("binding", "Binding", CREATE),
        Subresource::Eviction => foreign("eviction", "Eviction", CREATE, ("policy", "v1")),
        Subresource::Log => described("log", &own, &["get"]),
        Subresource::Exec => described("exec", &format!("{own}ExecOptions"), STREAM),
        Subresource::Attach => described("attach", &format!("{own}AttachOptions"), STREAM),
        Subresource::PortForward => described("portforward", &format!("{own}PortForwardOptions"), STREAM),
        Subresource::Proxy => described("proxy", &format!("{own}ProxyOptions"), PROXY),
        Subresource::Token => foreign("token", "TokenRequest", CREATE, ("authentication.k8s.io", "v1")),
        Subresource::Finalize => described("finalize", &own, &["update"]),
        Subresource::EphemeralContainers => described("ephemeralcontainers", &own, OBJECT),
        Subresource::Resize => described("resize", &own, OBJECT),
        Subresource::Approval => described("approval", &own, OBJECT),
    }
}

/// Changes when the stored form does: eight bytes of a hash of the stored group, version and kind.
fn storage_version_hash(info: &ResourceInfo) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", info.group, info.stored_version, info.kind));
    STANDARD.encode(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = vec!["v1alpha1", "v1", "v2beta1", "v2", "v1beta2", "odd", "v1beta10"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "odd"]);
    }
}
