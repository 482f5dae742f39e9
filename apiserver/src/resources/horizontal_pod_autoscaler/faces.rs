//! The two faces of an autoscaler: autoscaling/v2, in which it is stored, and autoscaling/v1, which knows only a CPU target. What v1
//! can't say stands in annotations, in the words of v1's own metric types, as older clients know them. Entry points: [`to_v1`],
//! [`from_v1`].
//!
//! Invariant: what goes from v2 to v1 and back is what it was.

use serde_json::{Map, Value, json};

const METRICS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// Sources: type, field.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// What v1 calls the values of a metric, in specs and in statuses.
struct Names {
    value: &'static str,
    average_value: &'static str,
    utilization: &'static str,
    /// The field of v2 that holds them.
    holder: &'static str,
}

const TARGETS: Names = Names {
    value: "targetValue",
    average_value: "targetAverageValue",
    utilization: "targetAverageUtilization",
    holder: "target",
};
const CURRENT: Names = Names {
    value: "currentValue",
    average_value: "currentAverageValue",
    utilization: "currentAverageUtilization",
    holder: "current",
};

impl Names {
    /// An object's average has the same short name everywhere.
    fn average_of(&self, field: &str) -> &'static str {
        if field == "object" { "averageValue" } else { self.average_value }
    }
}

/// From the stored form to autoscaling/v1.
pub fn to_v1(mut stored: Value) -> Value {
    let mut kept: Vec<(&str, String)> = Vec::new();
    if let Some(spec) = stored.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = taken_list(spec, "metrics");
        if let Some(target) = metrics.iter().find(|metric| is_cpu(metric)).and_then(utilization) {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
        }
        let others = metrics.iter().filter(|metric| !(is_cpu(metric) && utilization(metric).is_some()));
        let others: Vec<String> = others.map(|metric| metric_to_v1(metric, &TARGETS)).collect();
        if !others.is_empty() {
            kept.push((METRICS_ANNOTATION, list(&others)));
        }
        kept.extend(spec.remove("behavior").map(|behavior| (BEHAVIOR_ANNOTATION, behavior_to_text(&behavior))));
    }
    if let Some(status) = stored.get_mut("status").and_then(Value::as_object_mut) {
        status.entry("currentReplicas").or_insert(Value::from(0));
        let current = taken_list(status, "currentMetrics");
        let used = |metric: &Value| metric["resource"]["current"].get("averageUtilization").cloned();
        if let Some(used) = current.iter().filter(|metric| is_cpu(metric)).filter_map(used).next_back() {
            status.insert("currentCPUUtilizationPercentage".to_owned(), used);
        }
        if !current.is_empty() {
            let current: Vec<String> = current.iter().map(|metric| metric_to_v1(metric, &CURRENT)).collect();
            kept.push((CURRENT_ANNOTATION, list(&current)));
        }
        let conditions = taken_list(status, "conditions");
        if !conditions.is_empty() {
            kept.push((CONDITIONS_ANNOTATION, list(&conditions.iter().map(condition_to_v1).collect::<Vec<_>>())));
        }
    }
    if let Some(annotations) = stored["metadata"].get_mut("annotations") {
        without_ours(annotations);
    }
    for (key, text) in kept {
        if stored["metadata"].is_object() {
            stored["metadata"]["annotations"][key] = Value::from(text);
        }
    }
    stored["apiVersion"] = Value::from("autoscaling/v1");
    stored
}

/// From autoscaling/v1 to the stored form.
pub fn from_v1(mut served: Value) -> Value {
    let annotation = |key: &str| -> Option<Value> {
        served.get("metadata")?.get("annotations")?.get(key).and_then(|text| serde_json::from_str(text.as_str()?).ok())
    };
    let items = |key: &str| annotation(key).and_then(|value| value.as_array().cloned());
    let (metrics, current, conditions) =
        (items(METRICS_ANNOTATION), items(CURRENT_ANNOTATION), items(CONDITIONS_ANNOTATION));
    let behavior = annotation(BEHAVIOR_ANNOTATION).map(|behavior| behavior_from(&behavior));
    if let Some(annotations) = served.get_mut("metadata").and_then(|meta| meta.get_mut("annotations")) {
        without_ours(annotations);
    }
    if let Some(spec) = served.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = metrics.into_iter().flatten();
        let mut all: Vec<Value> = metrics.map(|metric| metric_from_v1(&metric, &TARGETS)).collect();
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage").filter(|target| !target.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": target});
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        set(spec, "metrics", Some(Value::from(all)).filter(|all| all != &json!([])));
        set(spec, "behavior", behavior.filter(|behavior| behavior != &json!({})));
    }
    if let Some(status) = served.get_mut("status").and_then(Value::as_object_mut) {
        let used = status.remove("currentCPUUtilizationPercentage").filter(|used| !used.is_null());
        let used = used.map(
            |used| json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}}]),
        );
        let current = current.map(|current| current.iter().map(|metric| metric_from_v1(metric, &CURRENT)).collect());
        set(status, "conditions", conditions.map(Value::from));
        set(status, "currentMetrics", current.or(used));
    }
    if served.get("apiVersion").is_some() {
        served["apiVersion"] = Value::from("autoscaling/v2");
    }
    served
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn utilization(metric: &Value) -> Option<Value> {
    metric["resource"]["target"].get("averageUtilization").filter(|target| !target.is_null()).cloned()
}

fn taken_list(fields: &mut Map<String, Value>, name: &str) -> Vec<Value> {
    fields.remove(name).and_then(|list| list.as_array().cloned()).unwrap_or_default()
}

fn without_ours(annotations: &mut Value) {
    for key in [METRICS_ANNOTATION, BEHAVIOR_ANNOTATION, CONDITIONS_ANNOTATION, CURRENT_ANNOTATION] {
        annotations.as_object_mut().map(|annotations| annotations.remove(key));
    }
}

fn set(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

/// The named fields that are there, under other names.
fn renamed(from: &Value, names: &[(&str, &str)]) -> Map<String, Value> {
    let fields = names.iter().filter_map(|(old, new)| Some(((*new).to_owned(), from.get(*old)?.clone())));
    fields.filter(|(_, value)| !value.is_null()).collect()
}

/// A JSON object whose fields stand in this order, as upstream's types declare them: the annotations are compared as texts.
fn object(fields: &[(&str, Option<String>)]) -> String {
    let given = fields.iter().filter_map(|(name, text)| Some(format!("\"{name}\":{}", text.as_ref()?)));
    format!("{{{}}}", given.collect::<Vec<_>>().join(","))
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

/// The field as JSON, if it is there.
fn text(of: &Value, name: &str) -> Option<String> {
    of.get(name).filter(|value| !value.is_null()).map(Value::to_string)
}

fn metric_to_v1(metric: &Value, names: &Names) -> String {
    let mut fields = vec![("type", text(metric, "type"))];
    for (_, field) in SOURCES {
        let source = metric.get(*field).filter(|source| !source.is_null());
        fields.push((field, source.map(|source| source_to_v1(field, source, names))));
    }
    object(&fields)
}

fn source_to_v1(field: &str, source: &Value, names: &Names) -> String {
    let amount = |name: &str| text(&source[names.holder], name);
    // Amounts that v1 always writes.
    let always = |name: &str| Some(amount(name).unwrap_or_else(|| "\"0\"".to_owned()));
    let is_status = names.holder == CURRENT.holder;
    let or_zero = |name: &str| if is_status { always(name) } else { amount(name) };
    let name = ("metricName", text(&source["metric"], "name"));
    let selector = source["metric"].get("selector").filter(|selector| !selector.is_null());
    let selector = selector.map(|selector| fields_of(selector, &["matchLabels", "matchExpressions"]));
    match field {
        "object" => {
            let target = fields_of(&source["describedObject"], &["kind", "name", "apiVersion"]);
            let value = (names.value, always("value"));
            object(&[
                ("target", Some(target)),
                name,
                value,
                ("selector", selector),
                ("averageValue", amount("averageValue")),
            ])
        }
        "pods" => object(&[name, (names.average_value, always("averageValue")), ("selector", selector)]),
        "external" => object(&[
            name,
            ("metricSelector", selector),
            (names.value, or_zero("value")),
            (names.average_value, amount("averageValue")),
        ]),
        _ => object(&[
            ("name", text(source, "name")),
            (names.utilization, amount("averageUtilization")),
            (names.average_value, or_zero("averageValue")),
            ("container", text(source, "container")),
        ]),
    }
}

fn fields_of(of: &Value, names: &[&'static str]) -> String {
    object(&names.iter().map(|name| (*name, text(of, name))).collect::<Vec<_>>())
}

fn metric_from_v1(metric: &Value, names: &Names) -> Value {
    let mut found = Map::from_iter([("type".to_owned(), metric["type"].clone())]);
    for (_, field) in SOURCES {
        if let Some(source) = metric.get(*field).filter(|source| !source.is_null()) {
            found.insert((*field).to_owned(), source_from_v1(field, source, names));
        }
    }
    Value::Object(found)
}

fn source_from_v1(field: &str, source: &Value, names: &Names) -> Value {
    let mut found = renamed(source, &[("name", "name"), ("container", "container"), ("target", "describedObject")]);
    if let Some(name) = source.get("metricName") {
        let selector = source.get("selector").or_else(|| source.get("metricSelector"));
        let mut metric = Map::from_iter([("name".to_owned(), name.clone())]);
        set(&mut metric, "selector", selector.cloned());
        found.insert("metric".to_owned(), Value::Object(metric));
    }
    let average = names.average_of(field);
    let given = [(names.value, "value"), (average, "averageValue"), (names.utilization, "averageUtilization")];
    let mut values = renamed(source, &given);
    // A zero stands for nothing beside the other value.
    if values.get("value") == Some(&json!("0")) && values.contains_key("averageValue") {
        values.remove("value");
    }
    if names.holder == "target" {
        let kind = match (values.contains_key("averageUtilization"), values.contains_key("averageValue")) {
            (true, _) => "Utilization",
            (false, true) => "AverageValue",
            (false, false) => "Value",
        };
        values.insert("type".to_owned(), Value::from(kind));
    }
    found.insert(names.holder.to_owned(), Value::Object(values));
    Value::Object(found)
}

fn condition_to_v1(condition: &Value) -> String {
    fields_of(condition, &["type", "status", "lastTransitionTime", "reason", "message"])
}

/// Upstream writes its internal type here: Go's names, and every field.
fn behavior_to_text(behavior: &Value) -> String {
    let always = |of: &Value, name: &str| Some(of[name].to_string());
    let policy = |policy: &Value| {
        let (kind, value, period) = (always(policy, "type"), always(policy, "value"), always(policy, "periodSeconds"));
        object(&[("Type", kind), ("Value", value), ("PeriodSeconds", period)])
    };
    let rules = |name: &str| {
        let rules = behavior.get(name).filter(|rules| !rules.is_null());
        let rules = rules.map(|rules| {
            let policies = rules["policies"].as_array();
            let policies = policies.map(|policies| list(&policies.iter().map(policy).collect::<Vec<_>>()));
            object(&[
                ("StabilizationWindowSeconds", always(rules, "stabilizationWindowSeconds")),
                ("SelectPolicy", always(rules, "selectPolicy")),
                ("Policies", policies.or(Some("null".to_owned()))),
                ("Tolerance", always(rules, "tolerance")),
            ])
        });
        rules.or(Some("null".to_owned()))
    };
    object(&[("ScaleUp", rules("scaleUp")), ("ScaleDown", rules("scaleDown"))])
}

/// Back from Go's names, which are read in any case of letters.
fn behavior_from(behavior: &Value) -> Value {
    match behavior {
        Value::Object(fields) => {
            let lowered = |name: &str| {
                let mut chars = name.chars();
                chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect::<String>()
            };
            let given = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(name, value)| (lowered(name), behavior_from(value))).collect())
        }
        Value::Array(items) => items.iter().map(behavior_from).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_target_is_a_field_of_v1() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "K", "name": "d"}}, "status": {"currentReplicas": 0, "desiredReplicas": 0}});
        let stored = from_v1(v1.clone());
        let target = json!({"type": "Utilization", "averageUtilization": 50});
        assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"], target);
        assert_eq!(to_v1(stored), v1);
    }

    #[test]
    fn the_rest_stands_in_annotations_and_comes_back() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let object = json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
            "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "10"}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
        let rules = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]});
        let current = json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "70m"}}}]);
        let v2 = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h", "annotations": {"own": "x"}},
            "spec": {"metrics": [object, pods, cpu], "behavior": {"scaleUp": rules}},
            "status": {"currentReplicas": 1, "currentMetrics": current, "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        let v1 = to_v1(v2.clone());
        let annotations = &v1["metadata"]["annotations"];
        let metrics = r#"[{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"hits","targetValue":"10","selector":{"matchLabels":{"a":"b"}}}},{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"1"}}]"#;
        assert_eq!(annotations[METRICS_ANNOTATION], metrics);
        let behavior = r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#;
        assert_eq!(annotations[BEHAVIOR_ANNOTATION], behavior);
        let current = r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":7,"currentAverageValue":"70m"}}]"#;
        assert_eq!(annotations[CURRENT_ANNOTATION], current);
        assert_eq!(annotations[CONDITIONS_ANNOTATION], r#"[{"type":"AbleToScale","status":"True"}]"#);
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 7);
        assert_eq!(from_v1(v1), v2);
    }
}
