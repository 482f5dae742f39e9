//! The cluster's certificates: two authorities (cluster, etcd), one certificate for each identity.
//!
//! Entry point: [`ensure`], which makes what is missing and renews serving certificates whose names changed. Keys are ECDSA P-256, readable by
//! their owner only. The key of service-account tokens is RSA, which takes a while to find: the API server makes it when it has started.
//! Identities follow <https://kubernetes.io/docs/setup/best-practices/certificates/>.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Days a leaf certificate is valid; upstream's kubeadm uses the same.
const LEAF_DAYS: i64 = 365;
/// Days an authority is valid.
const CA_DAYS: i64 = 3650;

/// A certificate file and its key file.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM certificate.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// The certificate folder of one cluster.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// Who a certificate is for.
struct Identity<'a> {
    file: &'a str,
    common_name: String,
    organizations: Vec<&'a str>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    server: bool,
    client: bool,
}

impl Pki {
    /// The folder `dir`, which need not exist yet.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// A pair by its file name without suffix.
    pub fn pair(&self, file: &str) -> Pair {
        Pair { cert: self.dir.join(format!("{file}.crt")), key: self.dir.join(format!("{file}.key")) }
    }

    /// The cluster's certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.pair("ca").cert
    }

    /// The key that signs service-account tokens.
    pub fn service_account_key(&self) -> PathBuf {
        self.dir.join("sa.key")
    }

    /// The certificate pair of a node's kubelet as a client.
    pub fn node_client(&self, node: &str) -> Pair {
        self.pair(&format!("node-{node}"))
    }

    /// The certificate pair of a node's kubelet as a server.
    pub fn node_server(&self, node: &str) -> Pair {
        self.pair(&format!("node-{node}-server"))
    }
}

/// Makes whatever is missing. `addresses` are those the API server answers on, `nodes` the names of this machine's nodes.
pub fn ensure(pki: &Pki, addresses: &[IpAddr], nodes: &[String], with_etcd: bool) -> Result<()> {
    fs::create_dir_all(&pki.dir).with_context(|| format!("can't create {}", pki.dir.display()))?;
    let cluster = authority(&pki.pair("ca"), "kubernetes")?;
    let mut identities = vec![apiserver(addresses)];
    identities.extend(clients());
    for node in nodes {
        identities.extend(node_identities(node, addresses));
    }
    for identity in &identities {
        issue(pki, identity, &cluster)?;
    }
    if with_etcd {
        let etcd = authority(&pki.pair("etcd-ca"), "etcd-ca")?;
        for identity in etcd_identities() {
            issue(pki, &identity, &etcd)?;
        }
    }
    Ok(())
}

fn client<'a>(file: &'a str, common_name: &str, organizations: Vec<&'a str>) -> Identity<'a> {
    Identity {
        file,
        common_name: common_name.to_owned(),
        organizations,
        names: vec![],
        addresses: vec![],
        server: false,
        client: true,
    }
}

fn clients() -> Vec<Identity<'static>> {
    vec![
        client("admin", "kubernetes-admin", vec!["system:masters"]),
        client("controller-manager", "system:kube-controller-manager", vec![]),
        client("scheduler", "system:kube-scheduler", vec![]),
        client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", vec!["system:masters"]),
    ]
}

fn apiserver(addresses: &[IpAddr]) -> Identity<'static> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    Identity {
        file: "apiserver",
        common_name: "kube-apiserver".into(),
        organizations: vec![],
        names: names.map(str::to_owned).to_vec(),
        addresses: addresses.to_vec(),
        server: true,
        client: false,
    }
}

fn node_identities(node: &str, addresses: &[IpAddr]) -> [Identity<'static>; 2] {
    let file = |suffix: &str| -> &'static str { Box::leak(format!("node-{node}{suffix}").into_boxed_str()) };
    let user = format!("system:node:{node}");
    let mut server = client(file("-server"), &user, vec!["system:nodes"]);
    server.names = vec![node.to_owned(), "localhost".into()];
    server.addresses = addresses.to_vec();
    server.server = true;
    server.client = false;
    [client(file(""), &user, vec!["system:nodes"]), server]
}

fn etcd_identities() -> [Identity<'static>; 2] {
    let mut server = client("etcd-server", "etcd", vec![]);
    server.names = vec!["localhost".into()];
    server.addresses = vec![IpAddr::from([127, 0, 0, 1])];
    // etcd's gateway dials its own listener with the serving certificate.
    server.server = true;
    [server, client("apiserver-etcd-client", "kube-apiserver-etcd-client", vec![])]
}

/// Loads the authority, or makes it.
fn authority(pair: &Pair, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
    if pair.cert.exists() && pair.key.exists() {
        let key = KeyPair::from_pem(&read(&pair.key)?)
            .with_context(|| format!("{} is not a private key", pair.key.display()))?;
        let cert = read(&pair.cert)?;
        return Issuer::from_ca_cert_pem(&cert, key)
            .with_context(|| format!("{} is not a certificate", pair.cert.display()));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![common_name.to_owned()])?;
    params.distinguished_name = distinguished_name(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, CA_DAYS);
    let cert = params.self_signed(&key)?;
    write_private(&pair.key, &key.serialize_pem())?;
    write_public(&pair.cert, &cert.pem())?;
    Ok(Issuer::new(params, key))
}

fn issue(pki: &Pki, identity: &Identity<'_>, issuer: &Issuer<'static, KeyPair>) -> Result<()> {
    let pair = pki.pair(identity.file);
    // A serving certificate depends on this machine's addresses; the list of names it was made for stands beside it.
    let names = pki.dir.join(format!("{}.names", identity.file));
    let wanted = format!("{:?} {:?}", identity.names, identity.addresses);
    let current = !identity.server || fs::read_to_string(&names).is_ok_and(|made_for| made_for == wanted);
    if current && pair.cert.exists() && pair.key.exists() {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(identity.names.clone())?;
    params.subject_alt_names.extend(identity.addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.distinguished_name = distinguished_name(&identity.common_name, &identity.organizations);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    if identity.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if identity.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    set_validity(&mut params, LEAF_DAYS);
    let cert = params.signed_by(&key, issuer)?;
    write_private(&pair.key, &key.serialize_pem())?;
    write_public(&pair.cert, &cert.pem())?;
    if identity.server {
        write_public(&names, &wanted)?;
    }
    Ok(())
}

fn distinguished_name(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Valid from an hour ago, so that a clock a little behind still accepts it.
fn set_validity(params: &mut CertificateParams, days: i64) {
    let now = process::clock::Clock::system().now().as_second();
    let at =
        |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.max(0).unsigned_abs());
    params.not_before = at(now - 3600);
    params.not_after = at(now + days * 86_400);
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    write_mode(path, text, 0o600)
}

fn write_public(path: &Path, text: &str) -> Result<()> {
    write_mode(path, text, 0o644)
}

fn write_mode(path: &Path, text: &str, mode: u32) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&partial);
    let mut file = file.with_context(|| format!("can't write {}", partial.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path).with_context(|| format!("can't write {}", path.display()))
}
