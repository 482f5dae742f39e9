//! The documents of an image: manifests and the configuration, as OCI and Docker write them. Pure.

use serde::Deserialize;

use crate::spec::ImageProcess;

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of the right form.
    #[error("malformed")]
    Json(#[source] serde_json::Error),
    /// Layers and diff ids do not pair.
    #[error("{layers} layers but {diff_ids} diff ids")]
    Count {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
}

/// Docker's `manifest.json` entry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerManifest {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// An OCI index, an OCI manifest, or Docker's forms of both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    pub config: Option<Descriptor>,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// Refers to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub digest: String,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    pub platform: Option<Platform>,
}

/// What machine a manifest is for.
#[derive(Clone, Debug, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

impl Descriptor {
    /// Whether it is for this machine, as far as it says.
    pub fn fits(&self) -> bool {
        self.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture())
    }

    /// The image's name that a layout notes.
    pub fn name(&self) -> Option<&str> {
        let named = |key: &str| self.annotations.get(key).map(String::as_str);
        named("io.containerd.image.name").or_else(|| named("org.opencontainers.image.ref.name"))
    }
}

/// This machine in OCI's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What we use of an image's configuration.
#[derive(Debug)]
pub struct Config {
    pub diff_ids: Vec<String>,
    pub process: ImageProcess,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Settings>,
    rootfs: RootFs,
}
#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

impl Config {
    /// Reads the configuration of an image with so many layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, ConfigError> {
        let document: Document = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        let diff_ids = document.rootfs.diff_ids;
        if diff_ids.len() != layers {
            return Err(ConfigError::Count { layers, diff_ids: diff_ids.len() });
        }
        let settings = document.config.unwrap_or_default();
        let process = ImageProcess {
            entrypoint: settings.entrypoint.unwrap_or_default(),
            cmd: settings.cmd.unwrap_or_default(),
            env: settings.env.unwrap_or_default(),
            working_dir: settings.working_dir.unwrap_or_default(),
            user: settings.user.unwrap_or_default(),
            stop_signal: settings.stop_signal.unwrap_or_default(),
        };
        Ok(Self { diff_ids, process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_with_nulls_and_without_settings() {
        let text = r#"{"config":{"Cmd":["sh"],"Entrypoint":null,"User":"7"},"rootfs":{"diff_ids":["sha256:a"]}}"#;
        let config = Config::parse(text.as_bytes(), 1).expect("valid");
        assert_eq!((config.process.cmd, config.process.user.as_str()), (vec!["sh".to_owned()], "7"));
        assert!(Config::parse(br#"{"rootfs":{"diff_ids":[]}}"#, 0).is_ok());
        assert!(matches!(Config::parse(text.as_bytes(), 2), Err(ConfigError::Count { layers: 2, diff_ids: 1 })));
    }
}
