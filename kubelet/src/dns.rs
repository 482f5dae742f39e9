//! Names inside a pod: its host name, its hosts file and its resolver.
//!
//! Entry: [`host_name`], [`hosts_file`], [`resolver`]. Invariant: pure.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::{HostAlias, Pod};

const HOST_NAME_LIMIT: usize = 63;

/// How the cluster and the node resolve names.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// The node's own `/etc/resolv.conf`.
    pub host: DnsConfig,
}

/// The pod's host name and, if it has a subdomain, its fully qualified one.
pub fn host_name(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(name) = spec.hostname_override {
        return (name, None);
    }
    let name = spec.hostname.filter(|name| !name.is_empty()).or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let name = name.get(..HOST_NAME_LIMIT).map_or(name.clone(), |cut| cut.trim_end_matches(['-', '.']).to_owned());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let full = spec
        .subdomain
        .filter(|subdomain| !subdomain.is_empty())
        .map(|subdomain| format!("{name}.{subdomain}.{namespace}.svc.{cluster_domain}"));
    (name, full)
}

/// The `/etc/hosts` of a pod with its own network.
pub fn hosts_file(pod: &Pod, pod_ips: &[String], cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let (name, full) = host_name(pod, cluster_domain);
    for ip in pod_ips {
        match &full {
            Some(full) => text.push_str(&format!("{ip}\t{full}\t{name}\n")),
            None => text.push_str(&format!("{ip}\t{name}\n")),
        }
    }
    text.push_str(&aliases(pod));
    text
}

/// The `/etc/hosts` of a pod on the node's network: the node's file and the pod's aliases.
pub fn hosts_file_on_host_network(pod: &Pod, host: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host}{}", aliases(pod))
}

fn aliases(pod: &Pod) -> String {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let line =
        |alias: &HostAlias| format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"));
    let lines: String = aliases.iter().map(line).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}

/// What goes into the pod's `/etc/resolv.conf`.
pub fn resolver(pod: &Pod, resolvers: &Resolvers) -> DnsConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network.unwrap_or(false);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else if cluster_first && !resolvers.cluster_dns.is_empty() {
        cluster_resolver(pod, resolvers)
    } else {
        resolvers.host.clone()
    };
    let extra = spec.dns_config.unwrap_or_default();
    append_new(&mut config.servers, extra.nameservers.unwrap_or_default());
    append_new(&mut config.searches, extra.searches.unwrap_or_default());
    for option in extra.options.unwrap_or_default() {
        let name = option.name.unwrap_or_default();
        config.options.retain(|known| known.split(':').next() != Some(name.as_str()));
        config.options.push(match option.value.filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name,
        });
    }
    config
}

fn cluster_resolver(pod: &Pod, resolvers: &Resolvers) -> DnsConfig {
    let domain = &resolvers.cluster_domain;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut searches =
        vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.trim_end_matches('.').to_owned()];
    append_new(&mut searches, resolvers.host.searches.clone());
    DnsConfig { servers: resolvers.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
}

fn append_new(list: &mut Vec<String>, more: Vec<String>) {
    for one in more {
        if !list.contains(&one) {
            list.push(one);
        }
    }
}

/// Reads a `resolv.conf`.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options = words.map(str::to_owned).collect(),
            Some(_) | None => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let value = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn resolvers_by_policy() {
        let host = parse_resolv_conf("nameserver 1.1.1.1 # one\nsearch lan\noptions edns0\n");
        let cluster = Resolvers {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            host: host.clone(),
        };
        let none = Resolvers { cluster_dns: vec![], ..cluster.clone() };
        let first = resolver(&pod(json!({"containers": []})), &cluster);
        assert_eq!(first.searches, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]);
        assert_eq!(
            (first.servers.as_slice(), first.options.as_slice()),
            (&["10.96.0.10".into()][..], &["ndots:5".into()][..])
        );
        assert_eq!(resolver(&pod(json!({"containers": []})), &none), host);
        assert_eq!(resolver(&pod(json!({"containers": [], "hostNetwork": true})), &cluster), host);
        let custom = json!({"containers": [], "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]}});
        let custom = resolver(&pod(custom), &cluster);
        assert_eq!((custom.servers, custom.options), (vec!["9.9.9.9".to_owned()], vec!["ndots:2".to_owned()]));
    }

    #[test]
    fn hosts() {
        let spec = json!({"containers": [], "hostname": "web", "subdomain": "sub",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
        let text = hosts_file(&pod(spec), &["10.0.0.2".into()], "cluster.local");
        assert!(text.contains("10.0.0.2\tweb.sub.ns.svc.cluster.local\tweb\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
