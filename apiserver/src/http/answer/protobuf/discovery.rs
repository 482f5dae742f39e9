//! The aggregated discovery document in protobuf. Entry point: [`encode`].
//!
//! Its few messages are of no kind that is stored, so their numbers stand here: those of apidiscovery/v2
//! (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery>).

use serde_json::{Map, Value};

use super::{Message, envelope, message};
use crate::resources::schema;

/// The document in protobuf, made of the one in JSON.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.metadata("ListMeta", &document["metadata"]);
    for group in items(&document["items"]) {
        out.inner(2, |out| {
            out.metadata("ObjectMeta", &group["metadata"]);
            items(&group["versions"]).for_each(|one| out.inner(2, |out| version(out, one)));
        });
    }
    let text = |name: &str| document[name].as_str().unwrap_or_default();
    envelope(text("apiVersion"), text("kind"), &out)
}

fn version(out: &mut Message, version: &Value) {
    out.text(1, &version["version"]);
    items(&version["resources"]).for_each(|one| out.inner(2, |out| resource(out, one)));
    out.text(3, &version["freshness"]);
}

fn resource(out: &mut Message, resource: &Value) {
    out.text(1, &resource["resource"]);
    out.kind(2, &resource["responseKind"]);
    out.text(3, &resource["scope"]);
    out.text(4, &resource["singularResource"]);
    for (number, name) in [(5, "verbs"), (6, "shortNames"), (7, "categories")] {
        items(&resource[name]).for_each(|one| out.text(number, one));
    }
    for one in items(&resource["subresources"]) {
        out.inner(8, |out| {
            out.text(1, &one["subresource"]);
            out.kind(2, &one["responseKind"]);
            items(&one["verbs"]).for_each(|verb| out.text(4, verb));
        });
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Message {
    fn text(&mut self, number: u32, value: &Value) {
        self.bytes(number, value.as_str().unwrap_or_default().as_bytes());
    }

    fn kind(&mut self, number: u32, value: &Value) {
        if value.is_object() {
            self.inner(number, |out| {
                for (number, name) in [(1, "group"), (2, "version"), (3, "kind")] {
                    out.text(number, &value[name]);
                }
            });
        }
    }

    fn metadata(&mut self, kind: &str, value: &Value) {
        let none = Map::new();
        if let Some(ty) = schema::of("meta/v1", kind) {
            self.bytes(1, &message(ty, value.as_object().unwrap_or(&none)).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The fields of a message: number and bytes; those that are numbers are left out.
    fn fields(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let varint = |bytes: &mut &[u8]| {
            let mut value = 0_u64;
            for shift in (0..).step_by(7) {
                let (first, rest) = bytes.split_first().expect("a byte");
                *bytes = rest;
                value |= u64::from(first & 0x7f) << shift;
                if first & 0x80 == 0 {
                    break;
                }
            }
            value
        };
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = varint(&mut bytes);
            if key & 7 == 2 {
                let (inner, rest) = bytes.split_at(usize::try_from(value).expect("small"));
                bytes = rest;
                found.push(((key >> 3) as u32, inner));
            }
        }
        found
    }

    fn at<'a>(bytes: &'a [u8], path: &[u32]) -> Vec<&'a [u8]> {
        path.iter().fold(vec![bytes], |level, number| {
            level.into_iter().flat_map(fields).filter(|(found, _)| found == number).map(|(_, inner)| inner).collect()
        })
    }

    #[test]
    fn every_part_has_its_number() {
        let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
                {"resource": "deployments", "responseKind": {"group": "", "version": "", "kind": "Deployment"},
                 "scope": "Namespaced", "singularResource": "deployment", "verbs": ["get", "list"], "shortNames": ["deploy"],
                 "categories": ["all"], "subresources": [{"subresource": "scale", "verbs": ["get"],
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}]}]}]}]});
        let bytes = encode(&document);
        let envelope = bytes.strip_prefix(b"k8s\0").expect("the magic number");
        let table: [(&[u32], &[&str]); 13] = [
            (&[1, 1], &["apidiscovery.k8s.io/v2"]),
            (&[1, 2], &["APIGroupDiscoveryList"]),
            (&[2, 2, 1, 1], &["apps"]),
            (&[2, 2, 2, 1], &["v1"]),
            (&[2, 2, 2, 3], &["Current"]),
            (&[2, 2, 2, 2, 1], &["deployments"]),
            (&[2, 2, 2, 2, 2, 3], &["Deployment"]),
            (&[2, 2, 2, 2, 3], &["Namespaced"]),
            (&[2, 2, 2, 2, 4], &["deployment"]),
            (&[2, 2, 2, 2, 5], &["get", "list"]),
            (&[2, 2, 2, 2, 7], &["all"]),
            (&[2, 2, 2, 2, 8, 1], &["scale"]),
            (&[2, 2, 2, 2, 8, 2, 1], &["autoscaling"]),
        ];
        for (path, expected) in table {
            let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(at(envelope, path), expected, "{path:?}");
        }
    }
}
