//! Objects as upstream's own (internal) types print, for the messages that show them: every field, in Go's names and order.
//! Entry points: [`one_line`] for an `Invalid value`, [`difference`] for the message that refuses an update.
//!
//! The facts are those of [`super::schema`] and the order of Go's declarations; what is said here is only where the internal types
//! differ from the served ones. Invariant: the text depends on the object alone.

use std::borrow::Cow;

use api::field::{FieldError, FieldErrorKind, FieldPath, go_quote};
use serde::Serialize;
use serde_json::Value;

use super::schema::{self, Presence, Shape, Type};
use crate::http::field_numbers::field_order;

mod unified;

/// Fields whose order is not that of the served type.
const ORDER: &[(&str, &[&str])] = &[
    (
        "v1.PodSpec",
        &[
            "volumes",
            "initContainers",
            "containers",
            "ephemeralContainers",
            "restartPolicy",
            "terminationGracePeriodSeconds",
            "activeDeadlineSeconds",
            "dnsPolicy",
            "nodeSelector",
            "serviceAccountName",
            "automountServiceAccountToken",
            "nodeName",
            "securityContext",
            "imagePullSecrets",
            "hostname",
            "subdomain",
            "setHostnameAsFQDN",
            "affinity",
            "schedulerName",
            "tolerations",
            "hostAliases",
            "priorityClassName",
            "priority",
            "preemptionPolicy",
            "dnsConfig",
            "readinessGates",
            "runtimeClassName",
            "overhead",
            "enableServiceLinks",
            "topologySpreadConstraints",
            "os",
            "schedulingGates",
            "resourceClaims",
            "resources",
            "hostnameOverride",
            "schedulingGroup",
        ],
    ),
    (
        "v1.Volume",
        &[
            "name",
            "hostPath",
            "emptyDir",
            "gcePersistentDisk",
            "awsElasticBlockStore",
            "gitRepo",
            "secret",
            "nfs",
            "iscsi",
            "glusterfs",
            "persistentVolumeClaim",
            "rbd",
            "quobyte",
            "flexVolume",
            "cinder",
            "cephfs",
            "flocker",
            "downwardAPI",
            "fc",
            "azureFile",
            "configMap",
            "vsphereVolume",
            "azureDisk",
            "photonPersistentDisk",
            "projected",
            "portworxVolume",
            "scaleIO",
            "storageos",
            "csi",
            "ephemeral",
            "image",
        ],
    ),
    ("v1.SeccompProfile", &["type", "localhostProfile"]),
    ("v1.AppArmorProfile", &["type", "localhostProfile"]),
];

/// The sources of PersistentVolumes, in the internal order.
const PERSISTENT_SOURCES: &[&str] = &[
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "hostPath",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "flexVolume",
    "cinder",
    "cephfs",
    "fc",
    "flocker",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Fields of a pod's spec that the internal type keeps in its security context, in its order.
const MOVED: &[(&str, Shape)] = &[
    ("hostNetwork", Shape::Bool),
    ("hostPID", Shape::Bool),
    ("hostIPC", Shape::Bool),
    ("shareProcessNamespace", Shape::Any),
    ("hostUsers", Shape::Any),
];

/// Go names that are not the JSON name with a capital.
const NAMES: &[(&str, &str)] = &[
    ("apiGroup", "APIGroup"),
    ("apiVersion", "APIVersion"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("cephfs", "CephFS"),
    ("cidrs", "CIDRs"),
    ("csi", "CSI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("gid", "GID"),
    ("gmsaCredentialSpec", "GMSACredentialSpec"),
    ("gmsaCredentialSpecName", "GMSACredentialSpecName"),
    ("grpc", "GRPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("ip", "IP"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("nfs", "NFS"),
    ("nonResourceURLs", "NonResourceURLs"),
    ("os", "OS"),
    ("pdName", "PDName"),
    ("rbd", "RBD"),
    ("seLinuxChangePolicy", "SELinuxChangePolicy"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("storageos", "StorageOS"),
    ("tcpSocket", "TCPSocket"),
    ("tty", "TTY"),
    ("uid", "UID"),
];

/// `Invalid value: {object}: detail`, with the object as upstream prints it.
pub fn invalid(path: &FieldPath, type_name: &str, object: impl Serialize, detail: &str) -> FieldError {
    let shown = one_line(type_name, object);
    let detail = if detail.is_empty() { shown } else { format!("{shown}: {detail}") };
    FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail }
}

/// `Unsupported value: {object}: supported values: …`, in the order given.
pub fn unsupported(path: &FieldPath, type_name: &str, object: impl Serialize, supported: &[&str]) -> FieldError {
    let supported: Vec<String> = supported.iter().map(|value| go_quote(value)).collect();
    let detail = format!("{}: supported values: {}", one_line(type_name, object), supported.join(", "));
    FieldError { kind: FieldErrorKind::NotSupported, path: path.clone(), value: None, detail }
}

/// The object in one line.
pub fn one_line(type_name: &str, object: impl Serialize) -> String {
    Node::of(type_name, object).compact()
}

/// The same for a list of objects.
pub fn invalid_list<T: Serialize>(path: &FieldPath, type_name: &str, objects: &[T], detail: &str) -> FieldError {
    let items: Vec<String> = objects.iter().map(|object| one_line(type_name, object)).collect();
    let detail = format!("[{}]: {detail}", items.join(","));
    FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail }
}

/// What changed from `old` to `new`, line by line, as `diff -u` shows it without its head.
pub fn difference(type_name: &str, old: impl Serialize, new: impl Serialize) -> String {
    lines_difference(&Node::of(type_name, old), &Node::of(type_name, new))
}

fn lines_difference(old: &Node, new: &Node) -> String {
    let lines = |node: &Node| {
        let mut text = String::new();
        node.indented(0, &mut text);
        text.split('\n').map(str::to_owned).collect::<Vec<_>>()
    };
    unified::difference(&lines(old), &lines(new))
}

fn to_value(object: impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// A JSON document whose objects keep their order.
enum Node {
    Leaf(Value),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn of(type_name: &str, object: impl Serialize) -> Self {
        let value = to_value(object);
        match schema::named(type_name) {
            _ if value.is_null() => Self::Leaf(value),
            Some(ty) => Self::of_struct(ty, &value),
            None => Self::Leaf(value),
        }
    }

    fn of_struct(ty: &'static Type, value: &Value) -> Self {
        if ty.name.starts_with("meta/v1.") {
            return Self::of_served(ty, value);
        }
        let mut fields = Vec::new();
        for name in order(ty) {
            let Some(field) = ty.field(name) else { continue };
            // Objects and templates embed their metadata.
            if name == "metadata" {
                let meta = schema::named("meta/v1.ObjectMeta").zip(value.get(name));
                if let Some(Self::Object(meta)) = meta.map(|(ty, meta)| Self::of_served(ty, meta)) {
                    fields.extend(meta);
                }
                continue;
            }
            let given = value.get(name).filter(|value| !value.is_null());
            let node = match (given, field.presence) {
                (Some(given), _) if ty.name == "v1.PodSpec" && name == "securityContext" => {
                    Self::pod_security(value, given)
                }
                (Some(given), _) => Self::of_shape(&field.shape, given),
                (None, Presence::Pointer | Presence::Nullable) => Self::Leaf(Value::Null),
                (None, Presence::OmitEmpty | Presence::Always) => Self::zero(&field.shape),
            };
            fields.push((go_name(name).into_owned(), node));
        }
        Self::Object(fields)
    }

    /// What belongs to metav1 is the same inside the internal types: JSON names, and empty fields are left out.
    fn of_served(ty: &'static Type, value: &Value) -> Self {
        if !value.is_object() {
            return Self::Leaf(value.clone());
        }
        let given = order(ty).into_iter().filter_map(|name| Some((name, value.get(name)?)));
        let node = |name: &str, value: &Value| {
            ty.field(name).map_or_else(|| Self::Leaf(value.clone()), |field| Self::of_shape(&field.shape, value))
        };
        Self::Object(given.map(|(name, value)| (name.to_owned(), node(name, value))).collect())
    }

    fn pod_security(spec: &Value, context: &Value) -> Self {
        let moved = MOVED.iter().map(|(name, shape)| {
            let node = spec.get(name).map_or_else(|| Self::zero(shape), |given| Self::Leaf(given.clone()));
            (go_name(name).into_owned(), node)
        });
        let rest = schema::named("v1.PodSecurityContext").map(|ty| Self::of_struct(ty, context));
        match rest {
            Some(Self::Object(rest)) => Self::Object(moved.chain(rest).collect()),
            Some(Self::Leaf(_) | Self::List(_)) | None => Self::Object(moved.collect()),
        }
    }

    fn of_shape(shape: &Shape, value: &Value) -> Self {
        match (shape, value) {
            (Shape::Struct(at), value) => Self::of_struct(schema::at(*at), value),
            (Shape::List(inner), Value::Array(items)) => {
                Self::List(items.iter().map(|item| Self::of_shape(inner, item)).collect())
            }
            (Shape::Map(inner), Value::Object(entries)) => {
                Self::Object(entries.iter().map(|(key, value)| (key.clone(), Self::of_shape(inner, value))).collect())
            }
            (_, value) => Self::Leaf(value.clone()),
        }
    }

    fn zero(shape: &Shape) -> Self {
        match shape {
            Shape::Str => Self::Leaf(Value::from("")),
            Shape::Int | Shape::Long | Shape::Float | Shape::IntOrString => Self::Leaf(Value::from(0)),
            Shape::Bool => Self::Leaf(Value::from(false)),
            Shape::Quantity => Self::Leaf(Value::from("0")),
            Shape::Struct(at) => Self::of_struct(schema::at(*at), &Value::Null),
            Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Any | Shape::List(_) | Shape::Map(_) => {
                Self::Leaf(Value::Null)
            }
        }
    }

    fn compact(&self) -> String {
        match self {
            Self::Leaf(value) => escaped(value),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::compact).collect();
                format!("[{}]", items.join(","))
            }
            Self::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, node)| format!("{}:{}", escaped(&Value::from(name.as_str())), node.compact()))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    /// With one space for each level, as upstream's diffs have it.
    fn indented(&self, level: usize, text: &mut String) {
        match self {
            Self::Leaf(Value::Object(fields)) if !fields.is_empty() => {
                let fields = fields.iter().map(|(name, value)| (name.clone(), Self::Leaf(value.clone()))).collect();
                Self::Object(fields).indented(level, text);
            }
            Self::Leaf(Value::Array(items)) if !items.is_empty() => {
                Self::List(items.iter().cloned().map(Self::Leaf).collect()).indented(level, text);
            }
            Self::Leaf(value) => text.push_str(&escaped(value)),
            Self::List(items) if items.is_empty() => text.push_str("[]"),
            Self::Object(fields) if fields.is_empty() => text.push_str("{}"),
            Self::List(items) => {
                text.push('[');
                for (i, item) in items.iter().enumerate() {
                    text.push_str(if i == 0 { "\n" } else { ",\n" });
                    text.push_str(&" ".repeat(level + 1));
                    item.indented(level + 1, text);
                }
                text.push('\n');
                text.push_str(&" ".repeat(level));
                text.push(']');
            }
            Self::Object(fields) => {
                text.push('{');
                for (i, (name, node)) in fields.iter().enumerate() {
                    text.push_str(if i == 0 { "\n" } else { ",\n" });
                    text.push_str(&" ".repeat(level + 1));
                    text.push_str(&escaped(&Value::from(name.as_str())));
                    text.push_str(": ");
                    node.indented(level + 1, text);
                }
                text.push('\n');
                text.push_str(&" ".repeat(level));
                text.push('}');
            }
        }
    }
}

/// As Go's encoder writes it.
fn escaped(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// What changed in the source of a PersistentVolume, which is a type of its own inside upstream.
pub fn source_difference(old: &impl Serialize, new: &impl Serialize) -> String {
    let sources = |spec: Value| {
        let shown = |name: &&'static str| {
            let ty = schema::named("v1.PersistentVolumeSpec")?;
            let shape = &ty.field(name)?.shape;
            let node = spec.get(*name).map_or(Node::Leaf(Value::Null), |source| Node::of_shape(shape, source));
            Some((go_name(name).into_owned(), node))
        };
        Node::Object(PERSISTENT_SOURCES.iter().filter_map(shown).collect())
    };
    lines_difference(&sources(to_value(old)), &sources(to_value(new)))
}

fn order(ty: &'static Type) -> Vec<&'static str> {
    if let Some((_, names)) = ORDER.iter().find(|(name, _)| *name == ty.name) {
        return names.to_vec();
    }
    let mut names: Vec<&'static str> = ty.fields.iter().map(|field| field.name).collect();
    if let Some(order) = field_order(ty) {
        names.sort_by_key(|name| order.get(name).copied().unwrap_or(usize::MAX));
    }
    names
}

fn go_name(json: &str) -> Cow<'static, str> {
    if let Ok(at) = NAMES.binary_search_by(|(name, _)| (*name).cmp(json)) {
        return Cow::Borrowed(NAMES[at].1);
    }
    let mut chars = json.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    Cow::Owned(first.into_iter().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_sorted_and_name_known_fields() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
        for (name, fields) in ORDER {
            let ty = schema::named(name).expect("a known type");
            let moved = if *name == "v1.PodSpec" { MOVED.len() + 1 } else { 0 };
            assert_eq!(fields.len() + moved, ty.fields.len(), "{name}");
            for field in *fields {
                assert!(ty.field(field).is_some(), "{name}.{field}");
            }
        }
    }

    #[test]
    fn every_field_is_shown_in_go_words() {
        let context = json!({"privileged": true, "allowPrivilegeEscalation": false, "capabilities": {"add": ["A"]}});
        let expected = r#"{"Capabilities":{"Add":["A"],"Drop":null},"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}"#;
        assert_eq!(one_line("v1.SecurityContext", context), expected);
        let probe = json!({"httpGet": {"path": "/<", "port": 80}, "periodSeconds": 10});
        let expected = r#"{"Exec":null,"HTTPGet":{"Path":"/\u003c","Port":80,"Host":"","Scheme":"","HTTPHeaders":null},"TCPSocket":null,"GRPC":null,"InitialDelaySeconds":0,"TimeoutSeconds":0,"PeriodSeconds":10,"SuccessThreshold":0,"FailureThreshold":0,"TerminationGracePeriodSeconds":null}"#;
        assert_eq!(one_line("v1.Probe", probe), expected);
    }

    #[test]
    fn a_difference_names_the_lines_of_the_whole_object() {
        let spec = |policy: &str| {
            json!({"containers": [], "restartPolicy": policy, "dnsPolicy": "ClusterFirst", "hostNetwork": true,
                "securityContext": {}, "terminationGracePeriodSeconds": 30})
        };
        let expected = "@@ -3,7 +3,7 @@\n  \"InitContainers\": null,\n  \"Containers\": [],\n  \"EphemeralContainers\": null,\n- \"RestartPolicy\": \"Always\",\n+ \"RestartPolicy\": \"Never\",\n  \"TerminationGracePeriodSeconds\": 30,\n  \"ActiveDeadlineSeconds\": null,\n  \"DNSPolicy\": \"ClusterFirst\",\n";
        assert_eq!(difference("v1.PodSpec", spec("Always"), spec("Never")), expected);
    }
}
