//! The API server's flags, named as kube-apiserver's, and what they come to: [`Config`].

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::{AuditConfig, Policy, PolicyError};
use crate::tokens::KeySource;

/// Where objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// A store in this process, on disk.
    Embedded,
    /// etcd.
    Etcd,
    /// A store in this process that forgets everything when it ends.
    Memory,
}

/// Flags of the process.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to listen on
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address at which members of the cluster reach this server [default: the bind address, or the machine's own]
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Where objects are kept
    #[arg(long, value_enum, default_value = "embedded")]
    pub store: StoreKind,
    /// Folder of the embedded store
    #[arg(long, required_if_eq("store", "embedded"), value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// etcd's client URLs
    #[arg(long, value_delimiter = ',', required_if_eq("store", "etcd"), value_name = "URLS")]
    pub etcd_servers: Vec<String>,
    /// Authority of etcd's certificate
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// Certificate shown to etcd
    #[arg(long, requires = "etcd_keyfile", value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the certificate shown to etcd
    #[arg(long, requires = "etcd_certfile", value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// The server's certificate
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// The server's key
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: PathBuf,
    /// Authority of client certificates
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: PathBuf,
    /// Keys, public or private, that verify service-account tokens; may be repeated
    #[arg(long, value_name = "FILE")]
    pub service_account_key_file: Vec<PathBuf>,
    /// Private key that signs service-account tokens; if the file does not exist, an RSA key is made and written there
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: PathBuf,
    /// Issuer of service-account tokens
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local", value_name = "URL")]
    pub service_account_issuer: String,
    /// Addresses of services
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cluster_ip_range: String,
    /// Ports of services on every node
    #[arg(long, default_value = "30000-32767", value_parser = port_range, value_name = "RANGE")]
    pub service_node_port_range: RangeInclusive<u16>,
    /// Requests that only read and are answered at a time; with those that write, the seats that priority levels share
    #[arg(long, default_value_t = 400, value_name = "NUMBER")]
    pub max_requests_inflight: u32,
    /// Requests that write and are answered at a time
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    pub max_mutating_requests_inflight: u32,
    /// How long to go on as usual, but not ready, after the process was told to end
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub shutdown_delay_duration: Duration,
    /// Certificate shown to kubelets
    #[arg(long, value_name = "FILE")]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Key of the certificate shown to kubelets
    #[arg(long, value_name = "FILE")]
    pub kubelet_client_key: Option<PathBuf>,
    /// Authority of kubelets' certificates
    #[arg(long, value_name = "FILE")]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Where the audit log is written; - is standard output
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// What the audit log records (audit.k8s.io/v1 Policy); without it nothing
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    #[command(flatten)]
    pub verbosity: process::logging::Verbosity,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = crate::cel::parse_duration(text).and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| format!("{text:?} is not a duration such as 1m30s"))
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is not a range of ports such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let range = first.trim().parse().map_err(|_| wrong())?..=last.trim().parse().map_err(|_| wrong())?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

/// Files with which the server shows itself to kubelets and recognises them.
#[derive(Clone, Debug)]
pub struct KubeletTls {
    /// Certificate shown.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authority of the kubelets' certificates.
    pub authority: PathBuf,
}

/// What the server itself needs to know, wherever it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and port that the `kubernetes` Service leads to.
    pub advertise_address: IpAddr,
    /// See above.
    pub secure_port: u16,
    /// Addresses of services.
    pub service_cidr: String,
    /// Ports of services on every node.
    pub node_ports: RangeInclusive<u16>,
    /// Issuer of service-account tokens.
    pub issuer: String,
    /// Keys that sign and verify service-account tokens.
    pub keys: KeySource,
    /// Seats that priority levels share: requests that are answered at a time.
    pub seats: u32,
    /// How kubelets are reached; None where there are none to reach.
    pub kubelet_tls: Option<KubeletTls>,
    /// What is logged of requests; None is nothing.
    pub audit: Option<AuditConfig>,
}

/// A flag that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// A file can't be read.
    #[error("can't read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The audit policy makes no sense.
    #[error("the audit policy in {0} can't be used")]
    AuditPolicy(PathBuf, #[source] PolicyError),
}

impl Args {
    /// Reads the files that the flags name.
    pub fn config(&self) -> Result<Config, ArgsError> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| ArgsError::Read(path.to_owned(), error));
        let kubelet = (&self.kubelet_client_certificate, &self.kubelet_client_key, &self.kubelet_certificate_authority);
        let kubelet_tls = match kubelet {
            (Some(certificate), Some(key), Some(authority)) => {
                Some(KubeletTls { certificate: certificate.clone(), key: key.clone(), authority: authority.clone() })
            }
            _ => None,
        };
        let audit = match (&self.audit_log_path, &self.audit_policy_file) {
            (Some(path), Some(file)) => {
                let policy = Policy::parse(&read(file)?);
                let policy = policy.map_err(|error| ArgsError::AuditPolicy(file.clone(), error))?;
                Some(AuditConfig { path: path.clone(), policy })
            }
            (Some(_), None) => {
                tracing::warn!("no audit policy file provided, no events will be recorded");
                None
            }
            (None, _) => None,
        };
        Ok(Config {
            advertise_address: self.advertise_address.unwrap_or_else(|| process::reachable_address(self.bind_address)),
            secure_port: self.secure_port,
            service_cidr: self.service_cluster_ip_range.clone(),
            node_ports: self.service_node_port_range.clone(),
            issuer: self.service_account_issuer.clone(),
            keys: self.keys()?,
            seats: self.max_requests_inflight.saturating_add(self.max_mutating_requests_inflight),
            kubelet_tls,
            audit,
        })
    }
}

impl Args {
    fn keys(&self) -> Result<KeySource, ArgsError> {
        let signing = &self.service_account_signing_key_file;
        let source = KeySource::of_files(signing, &self.service_account_key_file);
        let source = source.map_err(|error| ArgsError::Read(signing.clone(), error))?;
        if matches!(source, KeySource::Files { .. }) {
            tracing::info!(key = %signing.display(), "service account tokens are signed as soon as their key is there");
        }
        Ok(source)
    }
}

impl Config {
    /// For a server inside another process: simulations and tests. Its tokens are signed with a key that nobody else has.
    pub fn for_tests() -> Self {
        let signing = rcgen::KeyPair::generate().expect("the system has random numbers").serialize_pem();
        Self {
            advertise_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            secure_port: 6443,
            service_cidr: "10.96.0.0/16".into(),
            node_ports: 30_000..=32_767,
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            keys: KeySource::Here { signing, verifying: vec![] },
            seats: 600,
            kubelet_tls: None,
            audit: None,
        }
    }
}
