//! The endpoints of `default/kubernetes`: the API servers that are alive. Each keeps a key with a short life in the store; the set
//! of the keys is the set of endpoints. Entry points: [`announce`], every [`INTERVAL`]; [`withdraw`] at the end.
//!
//! Deviation: servers on one address are told apart by their ports; upstream knows one port only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::error::ApiError;
use api::well_known::labels;
use bytes::Bytes;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kubernetes_service::{NAME, NAMESPACE, PORT_NAME};
use super::writer::Writer;
use crate::read::storage_error;
use crate::storage::{Expect, Outcome, Write};

/// How often a server says that it is alive.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(15);
const LEASES: &str = "/registry/masterleases/";
const ATTEMPTS: usize = 5;

/// Addresses and ports of the live servers.
type Live = BTreeSet<(IpAddr, u16)>;

/// Says that this server is alive, and brings the endpoints up to date.
pub(super) async fn announce(writer: &Writer) -> Result<(), ApiError> {
    let config = &writer.server.config;
    if config.advertise_address.is_loopback() || config.advertise_address.is_unspecified() {
        tracing::debug!(address = %config.advertise_address, "pods can't reach this address, so it is no endpoint");
        return Ok(());
    }
    let (key, value) = lease(writer);
    write(writer, &key, Write::Put { value, ttl: Some(LIFE) }).await?;
    publish(writer).await
}

/// Takes this server off the endpoints, unless it is the last one.
pub(super) async fn withdraw(writer: &Writer) -> Result<(), ApiError> {
    let (key, _) = lease(writer);
    write(writer, &key, Write::Delete).await?;
    publish(writer).await
}

fn lease(writer: &Writer) -> (String, Bytes) {
    let address = writer.server.advertised();
    (format!("{LEASES}{address}"), Bytes::from(serde_json::json!({"address": address}).to_string()))
}

async fn write(writer: &Writer, key: &str, write: Write) -> Result<(), ApiError> {
    let storage = &writer.server.storage;
    for _ in 0..ATTEMPTS {
        let (found, _) = storage.get(key).await.map_err(storage_error)?;
        let expect = match (&found, &write) {
            (None, Write::Delete) => return Ok(()),
            (None, Write::Put { .. }) => Expect::Absent,
            (Some(item), _) => Expect::Revision(item.revision),
        };
        if let Outcome::Committed(_) = storage.commit(key, expect, write.clone()).await.map_err(storage_error)? {
            return Ok(());
        }
    }
    Err(ApiError::internal(format!("{key} was always changed by somebody else")))
}

async fn publish(writer: &Writer) -> Result<(), ApiError> {
    let listed = writer.server.storage.list(LEASES, None, 0, None).await.map_err(storage_error)?;
    let addresses =
        listed.items.iter().filter_map(|item| item.key.strip_prefix(LEASES)?.parse::<std::net::SocketAddr>().ok());
    let live: Live = addresses.map(|address| (address.ip(), address.port())).collect();
    // Endpoints that nobody answers are no worse than none, and clients that hold on to them may still be right.
    if live.is_empty() {
        return Ok(());
    }
    let done = [publish_endpoints(writer, &live).await, publish_slices(writer, &live).await];
    done.into_iter().find(|done| done.as_ref().is_err_and(|error| !error.is_conflict())).unwrap_or(Ok(()))
}

async fn publish_endpoints(writer: &Writer, live: &Live) -> Result<(), ApiError> {
    let subsets = Some(subsets(live));
    match writer.get::<Endpoints>(NAMESPACE, NAME) {
        Some(found) if found.subsets == subsets => Ok(()),
        Some(found) => writer.replace(Endpoints { subsets, ..found }).await,
        None => {
            let metadata = meta(NAME.to_owned(), labels::ENDPOINTSLICE_SKIP_MIRROR, "true");
            writer.create(Endpoints { metadata, subsets }).await
        }
    }
}

async fn publish_slices(writer: &Writer, live: &Live) -> Result<(), ApiError> {
    for wanted in slices(live) {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        match writer.get::<EndpointSlice>(NAMESPACE, &name) {
            Some(found) if found.endpoints == wanted.endpoints && found.ports == wanted.ports => {}
            Some(found) => writer.replace(EndpointSlice { metadata: found.metadata, ..wanted }).await?,
            None => writer.create(wanted).await?,
        }
    }
    Ok(())
}

fn by_port(live: &Live) -> BTreeMap<u16, Vec<IpAddr>> {
    let mut ports: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
    for (address, port) in live {
        ports.entry(*port).or_default().push(*address);
    }
    ports
}

fn subsets(live: &Live) -> Vec<EndpointSubset> {
    let subset = |(port, addresses): (u16, Vec<IpAddr>)| EndpointSubset {
        addresses: Some(
            addresses
                .into_iter()
                .map(|ip| EndpointAddress { ip: ip.to_string(), ..EndpointAddress::default() })
                .collect(),
        ),
        not_ready_addresses: None,
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: i32::from(port),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    };
    by_port(live).into_iter().map(subset).collect()
}

/// One slice for each port; the first has the name of the Service.
fn slices(live: &Live) -> Vec<EndpointSlice> {
    let slice = |(i, (port, addresses)): (usize, (u16, Vec<IpAddr>))| {
        let name = if i == 0 { NAME.to_owned() } else { format!("{NAME}-{port}") };
        let address_type = if addresses.iter().all(IpAddr::is_ipv4) { "IPv4" } else { "IPv6" };
        let endpoint = |ip: IpAddr| Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        };
        let port = SlicePort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(i32::from(port)),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        };
        EndpointSlice {
            metadata: meta(name, labels::SERVICE_NAME, NAME),
            address_type: address_type.to_owned(),
            endpoints: Some(addresses.into_iter().map(endpoint).collect()),
            ports: Some(vec![port]),
        }
    };
    by_port(live).into_iter().enumerate().map(slice).collect()
}

fn meta(name: String, label: &str, value: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some([(label.to_owned(), value.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_servers_are_grouped_by_port() {
        let live: Live = [("10.0.0.2", 6443), ("10.0.0.1", 6443), ("10.0.0.1", 7443)]
            .map(|(ip, port)| (ip.parse().unwrap(), port))
            .into();
        let shown: Vec<_> = subsets(&live)
            .iter()
            .map(|subset| {
                let addresses: Vec<_> = subset.addresses.iter().flatten().map(|address| address.ip.clone()).collect();
                (subset.ports.as_ref().unwrap()[0].port, addresses)
            })
            .collect();
        assert_eq!(
            shown,
            [(6443, vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()]), (7443, vec!["10.0.0.1".to_owned()])]
        );
        let names: Vec<_> = slices(&live).into_iter().filter_map(|slice| slice.metadata.name).collect();
        assert_eq!(names, ["kubernetes", "kubernetes-7443"]);
    }
}
