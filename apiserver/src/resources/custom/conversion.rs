//! How the versions of a defined kind become each other: [`Conversion`], `None` by writing another `apiVersion`, or `Webhook` by
//! asking for it.
//!
//! Reference: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>.

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use process::Rng;
use serde_json::{Map, Value, json};

use crate::webhook::{Client, ClientConfig};

/// How long a webhook may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub enum Conversion {
    /// All versions look alike.
    None,
    /// A webhook knows.
    Webhook(Webhook),
}

/// The webhook of a definition.
pub struct Webhook {
    /// How it is called.
    pub client: Arc<Client>,
    /// Where it is.
    pub config: ClientConfig,
    /// The versions of ConversionReview that it understands.
    pub review_versions: Vec<String>,
    /// For the names of questions.
    pub rng: Rng,
}

impl Conversion {
    /// Brings objects into a version; those that are in it already stay as they are.
    pub async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, ApiError> {
        match self {
            Self::None => Ok(objects.into_iter().map(|object| renamed(object, api_version)).collect()),
            Self::Webhook(webhook) => webhook.convert(objects, api_version).await.map_err(ApiError::unclassified),
        }
    }

    /// As [`Self::convert`] where nobody can be asked: the fields as they are, under the other version.
    pub fn rename(object: Value, api_version: &str) -> Value {
        renamed(object, api_version)
    }
}

fn renamed(mut object: Value, api_version: &str) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert("apiVersion".to_owned(), Value::from(api_version));
    }
    object
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Group, version and kind as Go prints them.
fn shown(object: &Value) -> String {
    let api_version = text(object, "apiVersion");
    format!("{api_version}, Kind={}", text(object, "kind"))
}

impl Webhook {
    /// The error is upstream's text.
    async fn convert(&self, mut objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, String> {
        let foreign = |object: &&mut Value| text(object, "apiVersion") != api_version;
        let mut wanted: Vec<&mut Value> = objects.iter_mut().filter(foreign).collect();
        let Some(first) = wanted.first() else { return Ok(objects) };
        let of = shown(first);
        let asked: Vec<&Value> = wanted.iter().map(|object| &**object).collect();
        let converted = self.ask(&asked, api_version, &of).await?;
        if converted.len() != wanted.len() {
            let (got, expected) = (converted.len(), wanted.len());
            return Err(format!("conversion webhook for {of} returned {got} objects, expected {expected}"));
        }
        for (i, (original, mut converted)) in wanted.iter_mut().zip(converted).enumerate() {
            let invalid = |why: String| {
                format!("conversion webhook for {of} returned invalid converted object at index {i}: {why}")
            };
            check(original, &converted, api_version).map_err(invalid)?;
            restore_metadata(original, &mut converted).map_err(|why| {
                format!("conversion webhook for {of} returned invalid metadata in object at index {i}: {why}")
            })?;
            **original = converted;
        }
        Ok(objects)
    }

    async fn ask(&self, objects: &[&Value], api_version: &str, of: &str) -> Result<Vec<Value>, String> {
        let known = self.review_versions.iter().find(|version| matches!(version.as_str(), "v1" | "v1beta1"));
        let version = known.ok_or("no supported conversion review versions")?;
        let uid = self.rng.uuid();
        let question = json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
        });
        let failed = |why: String| format!("conversion webhook for {of} failed: {why}");
        let answer = self.client.call(&self.config, PATIENCE, &question).await;
        let mut answer = answer.map_err(|error| failed(error.to_string()))?;
        if version == "v1"
            && (text(&answer, "kind"), text(&answer, "apiVersion")) != ("ConversionReview", "apiextensions.k8s.io/v1")
        {
            return Err(failed(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {}",
                shown(&answer)
            )));
        }
        let mut response = answer.get_mut("response").map(Value::take).unwrap_or_default();
        if response.is_null() {
            return Err(failed("no response provided".to_owned()));
        }
        if version == "v1" && text(&response, "uid") != uid {
            let given = api::field::go_quote(text(&response, "uid"));
            return Err(failed(format!("expected response.uid=\"{uid}\", got {given}")));
        }
        let result = response.get("result").cloned().unwrap_or_default();
        match (text(&result, "status"), text(&result, "message")) {
            ("Success", _) => {}
            (status, "") => return Err(failed(format!("response.result.status was '{status}', not 'Success'"))),
            (_, message) => return Err(failed(message.to_owned())),
        }
        match response.get_mut("convertedObjects").map(Value::take) {
            Some(Value::Array(objects)) => Ok(objects),
            _ => Ok(Vec::new()),
        }
    }
}

/// A webhook may change anything but what object it is.
fn check(original: &Value, converted: &Value, api_version: &str) -> Result<(), String> {
    let got = text(converted, "apiVersion");
    if got != api_version {
        return Err(format!("invalid groupVersion (expected {api_version}, received {got})"));
    }
    let (expected, got) = (text(original, "kind"), text(converted, "kind"));
    if expected != got {
        return Err(format!("invalid kind (expected {expected}, received {got})"));
    }
    for name in ["name", "namespace", "uid"] {
        let of = |object: &Value| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (expected, got) = (of(original), of(converted));
        if expected != got {
            let quote = api::field::go_quote;
            return Err(format!("must have the same {name}: {} != {}", quote(&expected), quote(&got)));
        }
    }
    Ok(())
}

/// Of metadata a webhook may change labels and annotations only.
fn restore_metadata(original: &Value, converted: &mut Value) -> Result<(), String> {
    let mut metadata = original.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let Some(given) = converted.get("metadata").and_then(Value::as_object) else {
        return Err("missing metadata in converted object".to_owned());
    };
    let Value::Object(kept) = &mut metadata else { return Err("invalid metadata".to_owned()) };
    for name in ["labels", "annotations"] {
        kept.remove(name);
        match given.get(name) {
            Some(Value::Object(entries)) if entries.is_empty() => {}
            Some(Value::Object(entries)) if entries.values().all(Value::is_string) => {
                kept.insert(name.to_owned(), Value::Object(entries.clone()));
            }
            Some(Value::Null) | None => {}
            Some(_) => return Err(format!("invalid metadata of type {name} in converted object")),
        }
    }
    converted["metadata"] = metadata;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converted_objects_stay_the_objects_they_were() {
        let original =
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {"x": "1"}}});
        let other = |name: &str, version: &str| json!({"apiVersion": version, "kind": "K", "metadata": {"name": name, "uid": "u", "labels": {"y": "2"}, "generation": 9}, "spec": {}});
        assert_eq!(check(&original, &other("a", "g/v2"), "g/v2"), Ok(()));
        assert_eq!(
            check(&original, &other("b", "g/v2"), "g/v2"),
            Err("must have the same name: \"a\" != \"b\"".to_owned())
        );
        assert_eq!(
            check(&original, &other("a", "g/v3"), "g/v2"),
            Err("invalid groupVersion (expected g/v2, received g/v3)".to_owned())
        );
        let mut converted = other("a", "g/v2");
        restore_metadata(&original, &mut converted).unwrap();
        assert_eq!(converted["metadata"], json!({"name": "a", "uid": "u", "labels": {"y": "2"}}));
    }
}
