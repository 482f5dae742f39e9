//! The documents as clients read them.

use std::collections::BTreeSet;

use axum::http::HeaderMap;

use super::*;
use crate::resources::{Resources, table};

fn served() -> Arc<Served> {
    Resources::new(table()).served()
}

fn read(key: &str) -> Value {
    let served = served();
    serde_json::from_slice(&write(key, &rows(&served, key)).expect("documents can be written"))
        .expect("documents are JSON")
}

fn ask(documents: &Documents, path: &str, hash: Option<&str>, headers: &[(HeaderName, &str)]) -> Response {
    let path: Vec<&str> = path.split('/').collect();
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header"))).collect();
    let asked = Asked { path: &path, hash, headers: &headers, now: Timestamp::UNIX_EPOCH };
    answer(documents, &served(), &asked).expect("an answer")
}

fn header(response: &Response, name: HeaderName) -> &str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// All that `$ref` names below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get("$ref") {
                found.insert(target.clone());
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn kinds_and_their_fields_are_described() {
    let served = served();
    for row in served.rows() {
        let document = read(&v3::key(row.as_ref()));
        let schema = &document["components"]["schemas"][operations::definition(row.as_ref())];
        let described = |schema: &Value| schema["description"].as_str().is_some_and(|words| !words.is_empty());
        assert!(described(schema), "{}", row.info().kind);
        assert!(described(&schema["properties"]["kind"]), "{}", row.info().kind);
    }
    let document = read("api/v1");
    let schemas = &document["components"]["schemas"];
    for (definition, field) in
        [("api.core.v1.Container", "image"), ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "name")]
    {
        let field = &schemas[format!("io.k8s.{definition}")]["properties"][field];
        assert!(field["description"].is_string(), "{definition}: {field}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let served = served();
    for key in v3::keys(&served) {
        let document = read(&key);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for target in found {
            let name = target.strip_prefix(definitions::REFERENCE).expect("only schemas are referred to");
            let schema = &document["components"]["schemas"][name];
            assert!(schema.as_object().is_some_and(|schema| !schema.is_empty()), "{key}: {target} leads nowhere");
        }
    }
    let document = read(V2);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for target in found {
        let pointer = target.strip_prefix('#').expect("a pointer into the document");
        assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
    }
}

#[test]
fn operations_have_unique_names() {
    let document = read(V2);
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in
            item.as_object().expect("operations").iter().filter(|(method, _)| *method != "parameters")
        {
            let id = operation["operationId"].as_str().expect("a name");
            assert!(seen.insert(id.to_owned()), "{method} {path}: {id} occurs twice");
            assert_eq!(operation["responses"]["401"]["description"], "Unauthorized");
        }
    }
}

/// kubectl writes nothing of a kind before it has found its patch operation with this parameter, inline.
#[test]
fn every_stored_kind_says_that_it_validates_fields() {
    let v2 = read(V2);
    let groups: BTreeMap<String, Value> =
        v3::keys(&served()).into_iter().map(|key| (key.clone(), read(&key))).collect();
    for row in served().rows().iter().filter(|row| row.info().stored) {
        let info = row.info();
        let kind = json!({"group": info.group, "version": info.version, "kind": info.kind});
        for document in [&v2, &groups[&v3::key(row.as_ref())]] {
            let items = document["paths"].as_object().expect("paths").values();
            let patches = items
                .filter_map(|item| item.get("patch"))
                .filter(|patch| patch["x-kubernetes-group-version-kind"] == kind);
            let names = patches.map(|patch| {
                patch["parameters"].as_array().expect("parameters").iter().any(|p| p["name"] == "fieldValidation")
            });
            let names: Vec<bool> = names.collect();
            assert!(!names.is_empty() && names.iter().all(|named| *named), "{} does not", info.kind);
        }
    }
}

#[test]
fn a_kind_is_found_by_its_name_at_every_depth() {
    let document = read("api/v1");
    let schemas = &document["components"]["schemas"];
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["x-kubernetes-group-version-kind"], json!([{"group": "", "kind": "Pod", "version": "v1"}]));
    assert_eq!(pod["properties"]["spec"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.PodSpec");
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    for (field, value) in [
        ("type", json!("array")),
        ("items", json!({"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"})),
        ("x-kubernetes-list-type", json!("map")),
        ("x-kubernetes-list-map-keys", json!(["name"])),
        ("x-kubernetes-patch-merge-key", json!("name")),
        ("x-kubernetes-patch-strategy", json!("merge")),
    ] {
        assert_eq!(containers[field], value, "{field}");
    }
    assert_eq!(schemas["io.k8s.api.core.v1.Container"]["required"], json!(["name"]));
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["nodeSelector"]["x-kubernetes-map-type"], "atomic");
    let limits = &schemas["io.k8s.api.core.v1.ResourceRequirements"]["properties"]["limits"]["additionalProperties"];
    assert_eq!(limits["$ref"], "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity");
}

#[test]
fn paths_are_upstreams() {
    let document = read("api/v1");
    let id = |path: &str, method: &str| {
        document["paths"][path][method]["operationId"].as_str().unwrap_or_default().to_owned()
    };
    for (path, method, name) in [
        ("/api/v1/", "get", "getCoreV1APIResources"),
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces"),
        ("/api/v1/namespaces/{namespace}/pods", "delete", "deleteCoreV1CollectionNamespacedPod"),
        ("/api/v1/namespaces/{namespace}/pods/{name}", "put", "replaceCoreV1NamespacedPod"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/status", "patch", "patchCoreV1NamespacedPodStatus"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/binding", "post", "createCoreV1NamespacedPodBinding"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/log", "get", "readCoreV1NamespacedPodLog"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/exec", "post", "connectCoreV1PostNamespacedPodExec"),
        ("/api/v1/namespaces/{name}/finalize", "put", "replaceCoreV1NamespaceFinalize"),
        ("/api/v1/nodes/{name}/proxy/{path}", "get", "connectCoreV1GetNodeProxyWithPath"),
        ("/api/v1/watch/namespaces/{namespace}/pods/{name}", "get", "watchCoreV1NamespacedPod"),
        ("/api/v1/watch/pods", "get", "watchCoreV1PodListForAllNamespaces"),
    ] {
        assert_eq!(id(path, method), name, "{method} {path}");
    }
    let scale = &document["paths"]["/api/v1/namespaces/{namespace}/replicationcontrollers/{name}/scale"]["patch"];
    assert_eq!(
        scale["x-kubernetes-group-version-kind"],
        json!({"group": "autoscaling", "kind": "Scale", "version": "v1"})
    );
    let shared = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["parameters"]
        .as_array()
        .expect("shared parameters");
    let names: Vec<&Value> = shared.iter().map(|parameter| &parameter["name"]).collect();
    assert_eq!(names, ["name", "namespace", "pretty"]);
}

#[test]
fn a_digest_names_the_document() {
    let documents = Documents::default();
    let index = ask(&documents, "v3", None, &[]);
    assert_eq!(header(&index, CONTENT_TYPE), "text/plain; charset=utf-8");
    let digest = documents.digest(&served(), "api/v1").expect("a digest");
    let tag = format!("\"{digest}\"");

    let kept = ask(&documents, "v3/api/v1", Some(&digest), &[(ACCEPT, "application/json")]);
    assert_eq!((kept.status().as_u16(), header(&kept, CACHE_CONTROL)), (200, "public, immutable"));
    assert_eq!((header(&kept, EXPIRES), header(&kept, ETAG)), ("Fri, 01 Jan 1971 00:00:00 GMT", tag.as_str()));
    let moved = ask(&documents, "v3/api/v1", Some("OLD"), &[]);
    let address = format!("/openapi/v3/api/v1?hash={digest}");
    assert_eq!((moved.status().as_u16(), header(&moved, LOCATION)), (301, address.as_str()));
    let unchanged = ask(&documents, "v3/api/v1", None, &[(IF_NONE_MATCH, &tag)]);
    assert_eq!((unchanged.status().as_u16(), header(&unchanged, ETAG)), (304, tag.as_str()));
    let packed = ask(&documents, "v2", None, &[(ACCEPT_ENCODING, "br, gzip;q=0.5")]);
    assert_eq!((header(&packed, CONTENT_ENCODING), header(&packed, CONTENT_TYPE)), ("gzip", "application/json"));
    let protobuf = [(ACCEPT, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let answered = ask(&documents, "v2", None, &protobuf);
    assert_eq!(answered.status().as_u16(), 200);
    assert_eq!(header(&answered, CONTENT_TYPE), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert_ne!(header(&answered, ETAG), header(&ask(&documents, "v2", None, &[]), ETAG));
    assert_eq!(ask(&documents, "v2", None, &[(ACCEPT, "text/html")]).status().as_u16(), 406);
    for missing in ["v4", "v3/apis/none/v1", "v3/api/v2", "v2/x"] {
        assert_eq!(ask(&documents, missing, None, &[]).status().as_u16(), 404, "{missing}");
    }
}

#[test]
fn what_is_kept_is_forgotten_when_the_rows_change() {
    let (documents, all) = (Documents::default(), served());
    let digest = documents.digest(&all, "api/v1").expect("a digest");
    assert!(documents.known("api/v1", &rows(&all, "api/v1")).is_some());
    let fewer = Resources::new(table().into_iter().filter(|row| row.info().kind != "Pod").collect()).served();
    assert!(documents.known("api/v1", &rows(&fewer, "api/v1")).is_none());
    assert_ne!(documents.digest(&fewer, "api/v1").expect("a digest"), digest);
    documents.packed(&all, "apis/apps").expect("a document");
    documents.forget_all_but(&BTreeSet::from(["api/v1".to_owned()]));
    assert!(documents.known("apis/apps", &[]).is_none());
}

#[test]
fn a_kind_that_is_defined_at_run_time_brings_its_schema() {
    let schema = json!({
        "type": "object",
        "description": "A tab.",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["cron"],
                "properties": {
                    "cron": {"type": "string", "pattern": "^.+$"},
                    "port": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true},
                    "note": {"type": "string", "nullable": true, "default": "none"},
                },
            },
        },
    });
    let mut definitions = definitions::Definitions::default();
    let name = names::definition("stable.example.com", "v1", "CronTab");
    definitions.add_custom(&name, &schema);
    let three = definitions.schema(&name);
    assert_eq!(three["properties"]["spec"], schema["properties"]["spec"]);
    assert_eq!(three["properties"]["kind"]["type"], "string");
    assert!(definitions.names().any(|name| name.ends_with("meta.v1.ManagedFieldsEntry")));

    let two = v2::schema(three);
    assert_eq!(two["properties"]["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let spec = json!({
        "type": "object",
        "required": ["cron"],
        "properties": {
            "cron": {"type": "string", "pattern": "^.+$"},
            "port": {"x-kubernetes-int-or-string": true},
            "note": {},
        },
    });
    assert_eq!(two["properties"]["spec"], spec);
}
