//! Definitions that are refused, and why.

use serde_json::{Value, json};

use crate::server::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";

fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.g.example.org"},
        "spec": {"group": "g.example.org", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
}

/// A definition with this at a place in it.
fn with(pointer: &str, value: Value) -> Value {
    let mut changed = definition();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    changed.pointer_mut(parent).expect("the parent is there")[name] = value;
    changed
}

/// A definition whose schema has this property `a`.
fn with_property(schema: Value) -> Value {
    with("/spec/versions/0/schema/openAPIV3Schema", json!({"type": "object", "properties": {"a": schema}}))
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_definition_is_said() {
    let server = Server::start().await;
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end \
        with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let schema = "spec.validation.openAPIV3Schema.properties[a]";
    let table = [
        (with("/metadata/name", json!("x.g.example.org")), "metadata.name: Invalid value: \"x.g.example.org\": must be spec.names.plural+\".\"+spec.group".to_owned()),
        (with("/spec/scope", json!("Galaxy")), "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"".to_owned()),
        (with("/spec/versions", json!([])), "[spec.versions: Invalid value: []: must have exactly one version marked as storage version, status.storedVersions: Invalid value: null: must have at least one stored version]".to_owned()),
        (with("/spec/versions/0/storage", json!(false)), "[spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\"SelectableFields\":null}]: must have exactly one version marked as storage version, status.storedVersions: Invalid value: null: must have at least one stored version]".to_owned()),
        (with("/spec/versions/0/name", json!("V_1")), format!("[spec.versions[0].name: Invalid value: \"V_1\": {label}, spec.version: Invalid value: \"V_1\": {label}]")),
        (with("/spec/versions/0/schema", json!(null)), "spec.versions[0].schema.openAPIV3Schema: Required value".to_owned()),
        (with("/spec/names/kind", json!("a_b")), format!("[spec.names.singular: Invalid value: \"a_b\": {label}, spec.names.kind: Invalid value: \"a_b\": may have mixed case, but should otherwise match: {label}, spec.names.listKind: Invalid value: \"a_bList\": may have mixed case, but should otherwise match: {label}]")),
        (with("/spec/preserveUnknownFields", json!(true)), "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead".to_owned()),
        (with("/spec/conversion", json!({"strategy": "Webhook"})), "[spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook, spec.conversion.conversionReviewVersions: Required value]".to_owned()),
        (with("/spec/versions/0/deprecationWarning", json!("old")), "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions".to_owned()),
        (with("/spec/versions/0/additionalPrinterColumns", json!([{"name": "a", "type": "strange", "jsonPath": "a"}])), "[spec.additionalPrinterColumns[0].type: Invalid value: \"strange\": must be one of boolean,date,integer,number,string, spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .]".to_owned()),
        (with("/spec/versions/0/subresources", json!({"scale": {"specReplicasPath": ".a", "statusReplicasPath": ""}})), "[spec.subresources.scale.specReplicasPath: Invalid value: \".a\": should be a json path under .spec, spec.subresources.scale.statusReplicasPath: Required value]".to_owned()),
        (with("/spec/versions/0/selectableFields", json!([{"jsonPath": ".x"}])), "spec.selectableFields[0].jsonPath: Invalid value: \".x\": is an invalid path: does not refer to a valid field".to_owned()),
        (
            with("/spec/versions", json!([
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}, "selectableFields": [{"jsonPath": ".x"}]},
                {"name": "v2", "served": true, "storage": false, "selectableFields": [{"jsonPath": ".x"}]},
            ])),
            "[spec.versions[1].schema.openAPIV3Schema: Required value, spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".x\": is an invalid path: \
             does not refer to a valid field, spec.versions[1].selectableFields: Invalid value: \"\": selectableFields may only be set when \
             version.schema.openAPIV3Schema is not included]".to_owned(),
        ),
        (
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"generateName": "a", "name": "things.g.example.org"},
                "spec": {"preserveUnknownFields": true, "conversion": {"strategy": "Sometimes"}, "group": "g.example.org", "scope": "Cluster",
                    "names": {"plural": "things", "kind": "Thing"}, "versions": [{"name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "string", "default": ""}}}}}]}}),
            "[metadata.generateName: Invalid value: \"a\": must be spec.names.plural+\".\"+spec.group, spec.preserveUnknownFields: Invalid value: true: \
             must be false in order to use defaults in the schema, spec.conversion.strategy: Invalid value: \"Sometimes\": must be None if \
             spec.preserveUnknownFields is true, spec.conversion.strategy: Unsupported value: \"Sometimes\": supported values: \"None\", \"Webhook\", \
             spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
             spec.versions[*].schema instead]".to_owned(),
        ),
        (with_property(json!({})), format!("{schema}.type: Required value: must not be empty for specified object fields")),
        (with_property(json!({"type": "integer", "default": "x"})), format!("{schema}.default: Invalid value: \"string\":  in body must be of type integer: \"string\"")),
        (with_property(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})), format!("{schema}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic")),
        (with_property(json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}})), format!("{schema}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map")),
        (with_property(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}})), format!("{schema}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property")),
        (with_property(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.size() > 1 &&"}, {"rule": "'a'"}, {"rule": " "}]})), format!("{schema}.x-kubernetes-validations[2].rule: Required value: rule is not specified")),
        (with_property(json!({"type": "string", "x-kubernetes-validations": [{"rule": "'a'"}]})), format!("{schema}.x-kubernetes-validations[0].rule: Invalid value: {{\"Rule\":\"'a'\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: cel expression must evaluate to a bool")),
        (with_property(json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}, "maxItems": 2})), format!("{schema}.items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within {schema}")),
        (
            with("/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations", json!([{"rule": "self.nothing > 1"}])),
            "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.nothing \\u003e 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing > 1\n | ....^".to_owned(),
        ),
    ];
    for (definition, why) in table {
        let refused = server.ask("POST", DEFINITIONS, &definition).await;
        let name = definition["metadata"]["name"].as_str().unwrap();
        let message = format!("CustomResourceDefinition.apiextensions.k8s.io \"{name}\" is invalid: {why}");
        assert_eq!(refused.error(), (422, message.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn groups_of_kubernetes_need_a_review() {
    let server = Server::start().await;
    let mut protected = with("/spec/group", json!("x.k8s.io"));
    protected["metadata"]["name"] = json!("things.x.k8s.io");
    let refused = server.ask("POST", DEFINITIONS, &protected).await;
    let cause = &refused.body["details"]["causes"][0];
    assert_eq!(cause["field"], json!("metadata.annotations[api-approved.kubernetes.io]"));
    assert_eq!(
        cause["message"],
        json!(
            "Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
        )
    );
    for reason in ["https://github.com/kubernetes/kubernetes/pull/1", "unapproved, for tests"] {
        protected["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": reason});
        assert_eq!(server.ask("POST", DEFINITIONS, &protected).await.status.as_u16(), 201, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn defaults_of_a_definition() {
    let server = Server::start().await;
    let created = server.ask("POST", DEFINITIONS, &definition()).await;
    assert_eq!(
        created.body["spec"]["names"],
        json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"})
    );
    assert_eq!(created.body["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(
        created.body["status"],
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]})
    );
}
