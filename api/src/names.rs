//! How things are called: keys, groups, revisions, and the rules for names with upstream's messages.
//!
//! Every `is_*` function answers the list of what is wrong; an empty list means the name is valid.

use std::fmt;

/// Namespace and name of an object; cluster-scoped objects have no namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace, if the kind has one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of a namespaced object; an empty namespace means none.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: (!namespace.is_empty()).then(|| namespace.to_owned()), name: name.to_owned() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: &str) -> Self {
        Self { namespace: None, name: name.to_owned() }
    }

    /// The key in an object's metadata.
    pub fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self { namespace: meta.namespace.clone(), name: meta.name.clone().unwrap_or_default() }
    }

    /// The namespace, or the empty string.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A state of the store: grows with every effective write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Parses a resourceVersion; anything but a plain decimal number is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().ok().map(Self) } else { None }
    }

    /// The revision that an object's metadata carries; 0 if it carries none.
    pub fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        meta.resource_version.as_deref().and_then(Self::parse).unwrap_or_default()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A resource without its version, shown as `deployments.apps` or `pods`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural lower-case name.
    pub resource: String,
}

impl GroupResource {
    /// From group and plural.
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, &self.resource, &self.group)
    }
}

/// A kind without its version, shown as `Deployment.apps` or `Pod`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
}

impl GroupKind {
    /// From group and kind.
    pub fn new(group: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), kind: kind.to_owned() }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, &self.kind, &self.group)
    }
}

/// A resource with group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural lower-case name.
    pub resource: String,
}

impl GroupVersionResource {
    /// From its three parts.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), resource: resource.to_owned() }
    }

    /// Without the version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }

    /// `group/version`, or only the version for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

fn qualified(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    if group.is_empty() { f.write_str(name) } else { write!(f, "{name}.{group}") }
}

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const SUBDOMAIN_FORMAT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_RULE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A lowercase RFC 1123 label: names of namespaces, containers, hosts.
pub fn is_dns1123_label(value: &str) -> Vec<String> {
    let mut wrong = too_many_characters(value, LABEL_MAX);
    if value.contains('.') && subdomain_format(value).is_empty() {
        wrong.push("must not contain dots".to_owned());
    } else if !lower_label(value) {
        wrong.push(regex(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "123-abc"],
        ));
    }
    wrong
}

/// A lowercase RFC 1123 subdomain: names of most objects.
pub fn is_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut wrong = too_many_characters(value, SUBDOMAIN_MAX);
    wrong.extend(subdomain_format(value));
    wrong
}

fn subdomain_format(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !value.split('.').all(lower_label) {
        wrong.push(regex(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FORMAT,
            &["example.com"],
        ));
    }
    wrong
}

/// A path in which names are looked up: a subdomain whose labels may hold underscores.
pub fn is_search_path(value: &str) -> Vec<String> {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        enclosed(label.strip_prefix('_').unwrap_or(label), plain, |b| plain(b) || matches!(b, b'-' | b'_'))
    };
    let mut wrong = too_many_characters(value, SUBDOMAIN_MAX);
    if !value.split('.').all(label) {
        wrong.push(regex(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    wrong
}

/// An RFC 1035 label: names of services.
pub fn is_dns1035_label(value: &str) -> Vec<String> {
    let mut wrong = too_many_characters(value, LABEL_MAX);
    if !(lower_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        wrong.push(regex(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// A label key, annotation key, finalizer or taint key: `name` or `prefix/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let (prefix, name) = match value.split('/').collect::<Vec<_>>().as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            let rule = regex(&format!("a valid label key {QUALIFIED_RULE}"), QUALIFIED_FORMAT, &examples);
            return vec![format!("{rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    let mut wrong = Vec::new();
    match prefix {
        Some("") => wrong.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            let found = too_long(prefix, SUBDOMAIN_MAX).into_iter().chain(subdomain_format(prefix));
            wrong.extend(found.map(|w| format!("prefix part {w}")));
        }
        None => {}
    }
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !mixed_label(name) {
        wrong.push(format!("name part {}", regex(QUALIFIED_RULE, QUALIFIED_FORMAT, &examples)));
    }
    wrong
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, LABEL_MAX);
    if !value.is_empty() && !mixed_label(value) {
        wrong.push(regex(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// A key of a ConfigMap or Secret.
pub fn config_key(value: &str) -> Vec<String> {
    let mut wrong = too_many_characters(value, SUBDOMAIN_MAX);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(allowed) {
        wrong.push(regex(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The name of an environment variable (the relaxed rule, in force since 1.34).
pub fn env_var_name(value: &str) -> Vec<String> {
    let valid = !value.is_empty() && value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    if valid {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// The name of a container or service port.
pub fn port_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A name that can stand in a path (roles and bindings allow anything else).
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => return vec!["may not be '.'".to_owned()],
        ".." => return vec!["may not be '..'".to_owned()],
        _ => {}
    }
    let found = ["/", "%"].iter().filter(|c| value.contains(**c));
    found.map(|c| format!("may not contain '{c}'")).collect()
}

/// A TCP or UDP port.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// An IPv4 or IPv6 address, as the strict rule has it (in force since 1.36).
pub fn ip_address(value: &str) -> Vec<String> {
    let wrong = match value.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            "must not be an IPv4-mapped IPv6 address"
        }
        Ok(_) => return Vec::new(),
        Err(_) if has_leading_zeros(value) => "must not have leading 0s",
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![wrong.to_owned()]
}

/// Whether this would be an IPv4 address if its numbers did not begin with zeros.
pub fn has_leading_zeros(value: &str) -> bool {
    let part = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let number = part.trim_start_matches('0');
        digits && (number.is_empty() || number.parse::<u8>().is_ok())
    };
    let parts: Vec<&str> = value.split('.').collect();
    parts.len() == 4 && parts.iter().all(|text| part(text)) && value.parse::<std::net::Ipv4Addr>().is_err()
}

/// Upstream's rules for whole names count in "characters", those for label keys and values in "bytes"; both mean bytes.
fn too_many_characters(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![format!("must be no more than {max} characters")] } else { Vec::new() }
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![format!("must be no more than {max} bytes")] } else { Vec::new() }
}

fn regex(rule: &str, format: &str, examples: &[&str]) -> String {
    let examples: Vec<_> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{format}')", examples.join(" or "))
}

fn lower_label(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    enclosed(value, plain, |b| plain(b) || b == b'-')
}

fn mixed_label(value: &str) -> bool {
    enclosed(value, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn enclosed(value: &str, ends: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => ends(*first) && ends(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_have_no_complaint() {
        assert!(is_dns1123_label("a-1").is_empty());
        assert!(is_dns1123_subdomain("a.b-c.1").is_empty());
        assert!(is_dns1035_label("a1").is_empty());
        assert!(qualified_name("example.com/My.name_1").is_empty());
        assert!(label_value("").is_empty());
        assert!(config_key("key.name").is_empty());
        assert!(port_name("http-2").is_empty());
    }

    #[test]
    fn bad_names_get_upstreams_words() {
        let rule = "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        let wrong = is_dns1123_label("A_B");
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("a lowercase RFC 1123 label must consist of"));
        assert!(wrong[0].ends_with(rule), "{}", wrong[0]);
        for bad in ["", "-a", "a-", "a..b", ".a", "A"] {
            assert_eq!(is_dns1123_subdomain(bad).len(), 1, "{bad:?}");
        }
        assert_eq!(is_dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(is_dns1035_label("1a").len(), 1);
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/").len(), 2);
        assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of alphanumeric"));
        assert_eq!(port_name("1"), ["must contain at least one letter (a-z)"]);
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
    }

    #[test]
    fn addresses_are_read_strictly() {
        assert!(ip_address("10.0.0.1").is_empty() && ip_address("2001:db8::1").is_empty());
        assert_eq!(ip_address("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(ip_address("::ffff:10.0.0.1"), ["must not be an IPv4-mapped IPv6 address"]);
        for bad in ["", "10.0.0", "10.0.0.256", "a", "1.2.3.4/24"] {
            assert!(ip_address(bad)[0].starts_with("must be a valid IP address"), "{bad:?}");
        }
    }

    #[test]
    fn revisions_are_plain_numbers() {
        assert_eq!(Revision::parse("12"), Some(Revision(12)));
        for bad in ["", "+1", "-1", "1a", "99999999999999999999999"] {
            assert_eq!(Revision::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_read_and_sort_by_namespace_then_name() {
        assert_eq!(ObjectKey::new("ns", "a").to_string(), "ns/a");
        assert_eq!(ObjectKey::cluster("a").to_string(), "a");
        assert!(ObjectKey::new("a", "z") < ObjectKey::new("b", "a"));
    }
}
