//! The flags of the controller-manager, and what they mean.
//!
//! Entry point: [`Args::config`], which reads the files that the flags name. [`Config`] is all that the controllers know of them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::controllers::nodeipam::plan::{Blocks, ParseError};

/// The flags; names, meanings and defaults are Kubernetes' where it has them.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "controller-manager", about = "Runs the control loops of the cluster")]
pub struct Args {
    /// Kubeconfig with the address of the API server and this component's credentials.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// CA certificate that is published to every namespace as kube-root-ca.crt.
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// Private key (RSA or ECDSA, PEM) that signs the tokens of service account secrets.
    #[arg(long, value_name = "FILE")]
    pub service_account_private_key_file: Option<PathBuf>,
    /// Work only while holding the Lease kube-system/kube-controller-manager.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Which controllers run: '*' all, 'foo' that one, '-foo' all but that one.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// How long a node may be silent before it counts as lost, in seconds ("50s" is accepted, too).
    #[arg(long, default_value = "50s", value_parser = parse_duration, value_name = "DURATION")]
    pub node_monitor_grace_period: Duration,
    /// How long a new node may be silent before it counts as lost.
    #[arg(long, default_value = "1m", value_parser = parse_duration, value_name = "DURATION")]
    pub node_startup_grace_period: Duration,
    /// The pods' network, cut into one block per node; empty assigns none.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub cluster_cidr: String,
    /// Size of a node's block.
    #[arg(long, default_value_t = 24, value_name = "BITS")]
    pub node_cidr_mask_size: u8,
    /// How many ended pods may exist before the oldest are deleted; 0 keeps all.
    #[arg(long, default_value_t = 12_500, value_name = "COUNT")]
    pub terminated_pod_gc_threshold: i64,
    /// Name of the cluster, for logs.
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// Address of the port for /healthz and /metrics.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind_address: IpAddr,
    /// Port for /healthz and /metrics; 0 serves none.
    #[arg(long, default_value_t = 0)]
    pub secure_port: u16,
    /// How much to log.
    #[command(flatten)]
    pub verbosity: ::process::logging::Verbosity,
}

/// What the controllers are told.
#[derive(Debug, Clone)]
pub struct Config {
    /// As `--controllers`.
    pub controllers: Vec<String>,
    /// As `--node-monitor-grace-period`.
    pub node_monitor_grace_period: Duration,
    /// As `--node-startup-grace-period`.
    pub node_startup_grace_period: Duration,
    /// The pods' network; `None` assigns no blocks.
    pub node_blocks: Option<Blocks>,
    /// As `--terminated-pod-gc-threshold`.
    pub terminated_pod_gc_threshold: i64,
    /// The CA certificate (PEM) to publish; `None` publishes none.
    pub root_ca: Option<String>,
    /// The file of the private key (PEM) for tokens of secrets, which may come later; `None` fills no secrets.
    pub service_account_key: Option<PathBuf>,
}

impl Default for Config {
    /// Kubernetes' defaults, all controllers, nothing that needs a file.
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_blocks: Blocks::parse("10.244.0.0/16", 24).ok(),
            terminated_pod_gc_threshold: 12_500,
            root_ca: None,
            service_account_key: None,
        }
    }
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("reading {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster's network cannot be cut.
    #[error("--cluster-cidr and --node-cidr-mask-size")]
    Network(#[source] ParseError),
    /// `--controllers` names one that does not exist.
    #[error("--controllers: {0:?} is not in the list of known controllers: {names}", names = known())]
    UnknownController(String),
}

impl Args {
    /// Checks the flags and reads the files they name.
    pub fn config(&self) -> Result<Config, ConfigError> {
        check_names(&self.controllers)?;
        let blocks =
            (!self.cluster_cidr.is_empty()).then(|| Blocks::parse(&self.cluster_cidr, self.node_cidr_mask_size));
        Ok(Config {
            controllers: self.controllers.clone(),
            node_monitor_grace_period: self.node_monitor_grace_period,
            node_startup_grace_period: self.node_startup_grace_period,
            node_blocks: blocks.transpose().map_err(ConfigError::Network)?,
            terminated_pod_gc_threshold: self.terminated_pod_gc_threshold,
            root_ca: self.root_ca_file.as_deref().map(read).transpose()?,
            service_account_key: self.service_account_private_key_file.clone(),
        })
    }
}

impl Config {
    /// Whether `--controllers` includes this one.
    pub fn runs(&self, name: &str) -> bool {
        let said = |text: &str| self.controllers.iter().any(|entry| entry == text);
        !said(&format!("-{name}")) && (said(name) || said("*"))
    }
}

/// Whether each entry of `--controllers` names a controller that there is.
pub fn check_names(controllers: &[String]) -> Result<(), ConfigError> {
    for name in controllers {
        let name = name.strip_prefix('-').unwrap_or(name);
        if name != "*" && !crate::controllers::TABLE.iter().any(|row| row.name == name) {
            return Err(ConfigError::UnknownController(name.to_owned()));
        }
    }
    Ok(())
}

fn known() -> String {
    crate::controllers::TABLE.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Go's durations as far as flags use them: `50s`, `1m30s`, `500ms`, `2h`; a plain number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}: write it as 50s, 1m30s or 500ms");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let millis = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(invalid()),
        };
        total += number.checked_mul(millis).map(Duration::from_millis).ok_or_else(invalid)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let table = [
            ("50s", Some(50_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("40", Some(40_000)),
            ("x", None),
            ("", None),
            ("5y", None),
        ];
        for (text, millis) in table {
            assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn the_list_of_controllers_is_read_as_upstream_does() {
        let with =
            |list: &[&str]| Config { controllers: list.iter().map(|s| (*s).to_owned()).collect(), ..Config::default() };
        assert!(with(&["*"]).runs("namespace-controller"));
        assert!(!with(&["*", "-namespace-controller"]).runs("namespace-controller"));
        assert!(!with(&["garbage-collector-controller"]).runs("namespace-controller"));
    }

    #[test]
    fn flags_are_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
