//! What admission is told of requests that become connections: exec, attach, port-forward, proxy.

use api::ApiError;
use serde_json::{Map, Value, json};

use super::On;
use crate::admission::{Operation, Other};
use crate::http::query::Query;
use crate::resources::Subresource;

impl On<'_> {
    /// Lets admission refuse the connection; logs are only read.
    pub(super) async fn admit_connection(&self, subresource: Subresource) -> Result<(), ApiError> {
        let Some((kind, mut fields)) = options(subresource, &self.info().kind, &self.call.query, &self.at.rest) else {
            return Ok(());
        };
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("apiVersion".to_owned(), "v1".into());
        let other = Other { group: "", version: "v1", kind, object: Value::Object(fields), old: None };
        self.place(false).check_admission_of(Operation::Connect, None, None, Some(&other)).await
    }
}

/// The kind of a connection's options, and the options.
fn options(
    subresource: Subresource,
    parent: &str,
    query: &Query,
    rest: &[String],
) -> Option<(&'static str, Map<String, Value>)> {
    let mut fields = Map::new();
    let kind = match (subresource, parent) {
        (Subresource::Exec | Subresource::Attach, _) => {
            streams(query, &mut fields);
            if subresource == Subresource::Attach {
                return Some(("PodAttachOptions", fields));
            }
            let command = query.all("command");
            if !command.is_empty() {
                fields.insert("command".to_owned(), json!(command));
            }
            "PodExecOptions"
        }
        (Subresource::PortForward, _) => {
            let all = query.all("ports").join(",");
            let ports: Vec<i32> = all.split(',').filter_map(|port| port.parse().ok()).collect();
            if !ports.is_empty() {
                fields.insert("ports".to_owned(), json!(ports));
            }
            "PodPortForwardOptions"
        }
        (Subresource::Proxy, parent) => {
            if !rest.is_empty() {
                fields.insert("path".to_owned(), format!("/{}", rest.join("/")).into());
            }
            match parent {
                "Node" => "NodeProxyOptions",
                "Service" => "ServiceProxyOptions",
                _ => "PodProxyOptions",
            }
        }
        _ => return None,
    };
    Some((kind, fields))
}

/// Output and errors are always wanted, as upstream's defaults have it.
fn streams(query: &Query, fields: &mut Map<String, Value>) {
    for name in ["stdin", "tty"] {
        if query.boolean(name) {
            fields.insert(name.to_owned(), true.into());
        }
    }
    fields.insert("stdout".to_owned(), true.into());
    fields.insert("stderr".to_owned(), true.into());
    if let Some(container) = query.first("container").filter(|container| !container.is_empty()) {
        fields.insert("container".to_owned(), container.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_by_subresource() {
        let query = Query::parse("command=sh&command=-c&stdin=true&container=c&ports=80,443");
        let found = |subresource, parent| {
            let rest = ["a".to_owned(), "b".to_owned()];
            options(subresource, parent, &query, &rest).map(|(kind, fields)| (kind, Value::Object(fields)))
        };
        let streams = json!({"stdin": true, "stdout": true, "stderr": true, "container": "c"});
        let mut exec = streams.clone();
        exec["command"] = json!(["sh", "-c"]);
        let table = [
            (Subresource::Exec, "Pod", Some(("PodExecOptions", exec))),
            (Subresource::Attach, "Pod", Some(("PodAttachOptions", streams))),
            (Subresource::PortForward, "Pod", Some(("PodPortForwardOptions", json!({"ports": [80, 443]})))),
            (Subresource::Proxy, "Service", Some(("ServiceProxyOptions", json!({"path": "/a/b"})))),
            (Subresource::Log, "Pod", None),
        ];
        for (subresource, parent, expected) in table {
            assert_eq!(found(subresource, parent), expected);
        }
    }
}
