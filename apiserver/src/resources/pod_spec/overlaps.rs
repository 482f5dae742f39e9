//! Files of a volume that lie on or under one another. Entry point: [`warnings`].
//!
//! Invariant: of each pair the later file is named first, with what it comes from where there is more than one source.

use api::field::go_quote;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

/// A file, and what it comes from.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        let path = go_quote(&self.path);
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }

    fn meets(&self, other: &Self) -> bool {
        let (one, two) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (one.starts_with(&two) || two.starts_with(&one))
    }
}

/// What is said of all volumes.
pub fn warnings(warnings: &mut Vec<String>, volumes: &[Volume]) {
    for volume in volumes {
        let name = go_quote(&volume.name);
        if let Some(map) = &volume.config_map {
            let what = format!("volume {name} (ConfigMap {})", go_quote(&map.name));
            overlaps(warnings, &what, keys(map.items.as_ref(), ""));
        }
        if let Some(secret) = &volume.secret {
            let from = go_quote(secret.secret_name.as_deref().unwrap_or_default());
            overlaps(warnings, &format!("volume {name} (Secret {from})"), keys(secret.items.as_ref(), ""));
        }
        if let Some(fields) = &volume.downward_api {
            overlaps(warnings, &format!("volume {name} (DownwardAPI)"), fields_of(fields.items.as_ref(), ""));
        }
        if let Some(projected) = &volume.projected {
            let what = format!("volume {name} (Projected)");
            let mut files = Vec::new();
            for source in projected.sources.iter().flatten() {
                if *source == VolumeProjection::default() {
                    warnings.push(format!("{what} has no sources provided"));
                }
                files.extend(projection(source));
            }
            overlaps(warnings, &what, files);
        }
    }
}

fn overlaps(warnings: &mut Vec<String>, what: &str, files: Vec<File>) {
    for (i, file) in files.iter().enumerate() {
        for other in files[..i].iter().filter(|other| other.meets(file)) {
            warnings.push(format!("{what}: overlapping paths: {} with {}", file.shown(), other.shown()));
        }
    }
}

fn keys(items: Option<&Vec<KeyToPath>>, source: &str) -> Vec<File> {
    items.into_iter().flatten().map(|item| File::new(&item.path, source)).collect()
}

fn fields_of(items: Option<&Vec<DownwardAPIVolumeFile>>, source: &str) -> Vec<File> {
    items.into_iter().flatten().map(|item| File::new(&item.path, source)).collect()
}

fn projection(source: &VolumeProjection) -> Vec<File> {
    if let Some(map) = source.config_map.as_ref().filter(|map| map.items.is_some()) {
        return keys(map.items.as_ref(), &format!("ConfigMap {}", go_quote(&map.name)));
    }
    if let Some(secret) = source.secret.as_ref().filter(|secret| secret.items.is_some()) {
        return keys(secret.items.as_ref(), &format!("Secret {}", go_quote(&secret.name)));
    }
    if let Some(fields) = source.downward_api.as_ref().filter(|fields| fields.items.is_some()) {
        return fields_of(fields.items.as_ref(), "DownwardAPI");
    }
    if let Some(token) = &source.service_account_token {
        return vec![File::new(&token.path, "ServiceAccountToken")];
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        let name = bundle.name.as_deref().or(bundle.signer_name.as_deref()).unwrap_or_default();
        return vec![File::new(&bundle.path, &format!("ClusterTrustBundle {}", go_quote(name)))];
    }
    let certificate = source.pod_certificate.clone().unwrap_or_default();
    let files = [
        (certificate.certificate_chain_path, "PodCertificate chain"),
        (certificate.key_path, "PodCertificate key"),
        (certificate.credential_bundle_path, "PodCertificate credential bundle"),
    ];
    files.into_iter().filter_map(|(path, what)| Some(File::new(&path?, what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_said_of_files_that_meet() {
        let item = |path: &str| json!({"key": "k", "path": path});
        let projected = |sources: Value| json!({"name": "v", "projected": {"sources": sources}});
        let map = |path: &str| json!({"configMap": {"name": "m", "items": [item(path)]}});
        let token = |path: &str| json!({"serviceAccountToken": {"path": path}});
        let table: &[(Value, &[&str])] = &[
            (json!({"name": "v", "configMap": {"name": "m", "items": [item("a"), item("ab"), item("b")]}}), &[]),
            (
                json!({"name": "v", "configMap": {"name": "m", "items": [item("a/b/"), item("a")]}}),
                &[r#"volume "v" (ConfigMap "m"): overlapping paths: "a" with "a/b""#],
            ),
            (
                json!({"name": "v", "secret": {"secretName": "s", "items": [item("a"), item("a")]}}),
                &[r#"volume "v" (Secret "s"): overlapping paths: "a" with "a""#],
            ),
            (
                json!({"name": "v", "downwardAPI": {"items": [{"path": "a"}, {"path": "a/b"}]}}),
                &[r#"volume "v" (DownwardAPI): overlapping paths: "a/b" with "a""#],
            ),
            (
                projected(
                    json!([map("a"), {"secret": {"name": "s"}}, token("a/b"), {"clusterTrustBundle": {"signerName": "g", "path": "a"}}, {}]),
                ),
                &[
                    r#"volume "v" (Projected) has no sources provided"#,
                    r#"volume "v" (Projected): overlapping paths: "a/b" (ServiceAccountToken) with "a" (ConfigMap "m")"#,
                    r#"volume "v" (Projected): overlapping paths: "a" (ClusterTrustBundle "g") with "a" (ConfigMap "m")"#,
                    r#"volume "v" (Projected): overlapping paths: "a" (ClusterTrustBundle "g") with "a/b" (ServiceAccountToken)"#,
                ],
            ),
        ];
        for (volume, expected) in table {
            let volume: Volume = serde_json::from_value(volume.clone()).expect("a volume");
            let mut found = Vec::new();
            warnings(&mut found, &[volume]);
            assert_eq!(found, *expected);
        }
    }
}
