//! What the labels of a namespace say about the security of its pods. Entry point: [`Policy::of_labels`].
//!
//! A label that can't be read enforces the strictest standard, and warns of nothing.

use std::collections::BTreeMap;
use std::fmt;

use api::field::{FieldError, FieldErrors, FieldPath};

/// What all labels of this kind begin with.
pub const LABELS: &str = "pod-security.kubernetes.io/";

/// How strict a standard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything is allowed.
    Privileged,
    /// No known ways out of the container.
    Baseline,
    /// Hardened.
    Restricted,
}

/// The version of Kubernetes whose idea of a standard counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.x.
    Minor(u32),
    /// The newest.
    Latest,
}

/// A level as a version defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// How strict.
    pub level: Level,
    /// As of when.
    pub version: Version,
}

/// What a namespace demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate this are refused.
    pub enforce: Standard,
    /// Violations go to the audit log.
    pub audit: Standard,
    /// Violations are told to the client.
    pub warn: Standard,
}

impl Default for Policy {
    fn default() -> Self {
        let all = Standard { level: Level::Privileged, version: Version::Latest };
        Self { enforce: all, audit: all, warn: all }
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// The policy, and what is wrong with the labels.
    pub fn of_labels(labels: Option<&BTreeMap<String, String>>) -> (Self, FieldErrors) {
        let (mut policy, mut wrong) = (Self::default(), FieldErrors::new());
        let modes = [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ];
        for (mode, standard, fallback) in modes {
            let (level, version) = (format!("{LABELS}{mode}"), format!("{LABELS}{mode}-version"));
            let given = |label: &str| labels.and_then(|labels| labels.get(label)).map(String::as_str);
            let mut refuse = |label: &str, value: &str, detail: &str| {
                let path = FieldPath::root("metadata").child("labels").key(label);
                wrong.push(FieldError::invalid(&path, value, detail));
            };
            if let Some(value) = given(&level) {
                standard.level = parse_level(value).unwrap_or_else(|| {
                    refuse(&level, value, "must be one of privileged, baseline, restricted");
                    fallback
                });
            }
            if let Some(value) = given(&version) {
                standard.version = parse_version(value).unwrap_or_else(|| {
                    refuse(&version, value, "must be \"latest\" or \"v1.x\"");
                    Version::Latest
                });
            }
        }
        (policy, wrong)
    }
}

fn parse_level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn parse_version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    minor.parse().ok().filter(|_| plain).map(Version::Minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_make_a_policy() {
        let standard = |level, version| Standard { level, version };
        let latest = |level| standard(level, Version::Latest);
        let table: [(&[(&str, &str)], Standard, Standard, &str); 6] = [
            (&[], latest(Level::Privileged), latest(Level::Privileged), "[]"),
            (
                &[("enforce", "baseline"), ("warn", "restricted")],
                latest(Level::Baseline),
                latest(Level::Restricted),
                "[]",
            ),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.24")],
                standard(Level::Baseline, Version::Minor(24)),
                latest(Level::Privileged),
                "[]",
            ),
            (
                &[("enforce", "strict")],
                latest(Level::Restricted),
                latest(Level::Privileged),
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            ),
            (
                &[("warn", "strict")],
                latest(Level::Privileged),
                latest(Level::Privileged),
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            ),
            (
                &[("warn", "baseline"), ("warn-version", "v1.07")],
                latest(Level::Privileged),
                latest(Level::Baseline),
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.07\": must be \"latest\" or \"v1.x\"",
            ),
        ];
        for (labels, enforce, warn, wrong) in table {
            let labels = labels.iter().map(|(key, value)| (format!("{LABELS}{key}"), (*value).to_owned())).collect();
            let (policy, errors) = Policy::of_labels(Some(&labels));
            assert_eq!(
                (policy.enforce, policy.warn, errors.to_string().as_str()),
                (enforce, warn, wrong),
                "{labels:?}"
            );
        }
    }
}
