//! Addresses and node ports of Services: each is given to one Service at a time, whichever API server gives it.
//!
//! A claim is a key of its own in the store (an IPAddress object, or a record for a port), made by compare-and-swap before the
//! Service is stored and removed after the Service is; so several API servers on one store never give the same one twice.
//! A claim that a crash left behind is free again after [`STALE_AFTER`]. Which addresses there are is for the ServiceCIDRs to say.
//! Entry point: [`Services`], by way of [`Claims`].

mod ranges;
mod record;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::error::ApiError;
use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::GroupKind;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::networking::v1::IPAddress;
use process::{Clock, Rng};

use self::ranges::Ranges;
pub use self::record::STALE_AFTER;
use self::record::{Book, Owner};
pub use self::slots::{Cidr, CidrError};
use self::slots::{Slot, slots_of};
use crate::admission::Lookup;
use crate::object::{Object, downcast, downcast_mut};
use crate::read::storage_error;
use crate::resources::service::families;
use crate::storage::{Storage, StorageError};
use crate::write::Place;
use crate::write::claims::{Claim, Claims, Settle};

/// See the module.
pub struct Services {
    book: Arc<Book>,
    rng: Rng,
    addresses: Cidr,
    ports: RangeInclusive<u16>,
}

/// What one write took, and what it gives back when it succeeds.
struct Taken {
    book: Arc<Book>,
    taken: Vec<(Slot, String)>,
    owner: Owner,
    given_up: Vec<Slot>,
}

impl Services {
    /// Gives out these ports, and these addresses besides those of other ServiceCIDRs.
    pub fn new(storage: Arc<dyn Storage>, clock: Clock, rng: Rng, addresses: Cidr, ports: RangeInclusive<u16>) -> Self {
        Self { book: Arc::new(Book::new(storage, clock, rng.clone())), rng, addresses, ports }
    }

    async fn ranges(&self, lookup: &dyn Lookup) -> Result<Ranges, ApiError> {
        let objects = lookup.list("networking.k8s.io", "servicecidrs", "").await?;
        let objects: Vec<_> = objects.iter().filter_map(|object| serde_json::from_slice(object).ok()).collect();
        Ok(Ranges::of(&objects, self.addresses))
    }

    async fn fill(
        &self,
        spec: &mut ServiceSpec,
        old: Option<&ServiceSpec>,
        name: &str,
        taking: &mut Taking<'_>,
    ) -> Result<(), ApiError> {
        let path = FieldPath::root("spec");
        let errors = families::settle(spec, old, self.addresses.family());
        if !errors.is_empty() {
            return Err(ApiError::invalid(&GroupKind::new("", "Service"), name, errors));
        }
        // A Service keeps the address it has: validation says so when a client wants another.
        let is_new = old.is_none_or(|old| old.type_.as_deref() == Some("ExternalName"));
        if is_new && slots::needs_address(spec) {
            self.address(spec, name, taking, &path).await?;
        }
        match old {
            _ if !slots::is_on_nodes(spec) => {}
            Some(_) => self.changed_node_ports(spec, name, taking, &path).await?,
            None => self.node_ports(spec, name, taking, &path).await?,
        }
        if slots::needs_health_check(spec) && !old.is_some_and(slots::needs_health_check) {
            self.health_check(spec, taking).await?;
        }
        Ok(())
    }

    async fn address(
        &self,
        spec: &mut ServiceSpec,
        name: &str,
        taking: &mut Taking<'_>,
        path: &FieldPath,
    ) -> Result<(), ApiError> {
        let Some(given) = spec.cluster_ip.clone().filter(|ip| !ip.is_empty()) else {
            let address = self.any_address(taking).await?;
            spec.cluster_ip = Some(address.to_string());
            spec.cluster_ips = Some(vec![address.to_string()]);
            return Ok(());
        };
        // Whether it is an address at all is for validation to say.
        let Ok(address) = given.parse::<IpAddr>() else { return Ok(()) };
        let claimed = match taking.dry_run {
            true => taking.ranges.check_dry(address),
            false => match taking.ranges.check(address) {
                Ok(()) if !taking.this(Slot::Address(address)).await.map_err(storage_error)? => {
                    Err("provided IP is already allocated".to_owned())
                }
                checked => checked,
            },
        };
        claimed.map_err(|why| {
            let all = spec.cluster_ips.clone().unwrap_or_else(|| vec![given]);
            let detail = format!("failed to allocate IP {address}: {why}");
            invalid(name, FieldError::invalid(&path.child("clusterIPs"), all, detail))
        })
    }

    async fn any_address(&self, taking: &mut Taking<'_>) -> Result<IpAddr, ApiError> {
        let failed = |why: &str| ApiError::internal(format!("failed to allocate a serviceIP: {why}"));
        if taking.dry_run {
            return taking.ranges.any_dry().map_err(failed);
        }
        for range in taking.ranges.iter().collect::<Vec<_>>() {
            let pick = |taken: &BTreeSet<Slot>| Slot::Address(range.pick(&self.rng, taken));
            if let Some(Slot::Address(address)) = taking.any(&pick).await.map_err(storage_error)? {
                return Ok(address);
            }
        }
        Err(failed("range is full"))
    }

    /// Ports of one number, for several protocols, share a node port, even one that only a later of them asks for.
    async fn node_ports(
        &self,
        spec: &mut ServiceSpec,
        name: &str,
        taking: &mut Taking<'_>,
        path: &FieldPath,
    ) -> Result<(), ApiError> {
        let allocate = slots::allocates_node_ports(spec);
        let asked: Vec<(i32, i32)> =
            spec.ports.iter().flatten().map(|port| (port.port, port.node_port.unwrap_or_default())).collect();
        let mut given = BTreeMap::new();
        for (i, port) in spec.ports.iter_mut().flatten().enumerate() {
            let wanted = port.node_port.unwrap_or_default();
            if wanted == 0 && !allocate {
                continue;
            }
            let number = match given.get(&port.port).copied() {
                Some(shared) if wanted == 0 || wanted == shared => shared,
                Some(_) => self.asked_port(wanted, name, taking, path, i).await?,
                None => {
                    let asked = asked.iter().find(|(number, wanted)| *number == port.port && *wanted != 0);
                    let number = match asked {
                        Some((_, wanted)) => self.asked_port(*wanted, name, taking, path, i).await?,
                        None => self.any_port(taking, "failed to allocate a nodePort").await?,
                    };
                    given.insert(port.port, number);
                    number
                }
            };
            port.node_port = Some(number);
        }
        Ok(())
    }

    /// A change finds what the Service has already.
    async fn changed_node_ports(
        &self,
        spec: &mut ServiceSpec,
        name: &str,
        taking: &mut Taking<'_>,
        path: &FieldPath,
    ) -> Result<(), ApiError> {
        let allocate = slots::allocates_node_ports(spec);
        let mut seen = BTreeSet::new();
        for (i, port) in spec.ports.iter_mut().flatten().enumerate() {
            let number = match port.node_port.unwrap_or_default() {
                0 if !allocate => continue,
                0 => self.any_port(taking, "failed to allocate a nodePort").await?,
                wanted if u16::try_from(wanted).is_ok_and(|wanted| taking.has(Slot::Port(wanted))) => wanted,
                wanted => self.asked_port(wanted, name, taking, path, i).await?,
            };
            port.node_port = Some(number);
            let protocol = port.protocol.clone().unwrap_or_default();
            if !seen.insert((protocol.clone(), number)) {
                return Err(ApiError::unclassified(format!("duplicate nodePort: {{{protocol} {number}}}")));
            }
        }
        Ok(())
    }

    async fn asked_port(
        &self,
        wanted: i32,
        name: &str,
        taking: &mut Taking<'_>,
        path: &FieldPath,
        at: usize,
    ) -> Result<i32, ApiError> {
        let claimed = self.port(wanted, taking).await?;
        claimed.map_err(|detail| {
            let field = path.child("ports").index(at).child("nodePort");
            invalid(name, FieldError::invalid(&field, wanted, detail))
        })?;
        Ok(wanted)
    }

    async fn health_check(&self, spec: &mut ServiceSpec, taking: &mut Taking<'_>) -> Result<(), ApiError> {
        match spec.health_check_node_port.filter(|wanted| *wanted != 0) {
            Some(wanted) => {
                let claimed = self.port(wanted, taking).await?;
                claimed.map_err(|why| {
                    ApiError::internal(format!("failed to allocate requested HealthCheck NodePort {wanted}: {why}"))
                })
            }
            None => {
                let port = self.any_port(taking, "failed to allocate a HealthCheck NodePort").await?;
                spec.health_check_node_port = Some(port);
                Ok(())
            }
        }
    }

    async fn port(&self, wanted: i32, taking: &mut Taking<'_>) -> Result<Result<(), String>, ApiError> {
        // Oddity of upstream's: a dry run is told who has a port, but not which ports there are.
        let port = u16::try_from(wanted).ok().filter(|port| taking.dry_run || self.ports.contains(port));
        let Some(slot) = port.map(Slot::Port) else {
            let (first, last) = (self.ports.start(), self.ports.end());
            return Ok(Err(format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )));
        };
        if !taking.has(slot) && taking.this(slot).await.map_err(storage_error)? {
            return Ok(Ok(()));
        }
        Ok(Err("provided port is already allocated".to_owned()))
    }

    async fn any_port(&self, taking: &mut Taking<'_>, what: &str) -> Result<i32, ApiError> {
        if taking.dry_run {
            return Ok(taking.dry_port());
        }
        let pick = |taken: &BTreeSet<Slot>| Slot::Port(slots::pick_port(&self.ports, &self.rng, taken));
        match taking.any(&pick).await.map_err(storage_error)? {
            Some(Slot::Port(port)) => Ok(i32::from(port)),
            _ => Err(ApiError::internal(format!("{what}: range is full"))),
        }
    }
}

/// The claims of one write while it makes them.
struct Taking<'a> {
    services: &'a Services,
    owner: Owner,
    /// What the stored Service has: it keeps that.
    held: Vec<Slot>,
    taken: Vec<(Slot, String)>,
    ranges: Ranges,
    dry_run: bool,
}

impl Taking<'_> {
    fn has(&self, slot: Slot) -> bool {
        self.held.contains(&slot) || self.taken.iter().any(|(taken, _)| *taken == slot)
    }

    async fn this(&mut self, slot: Slot) -> Result<bool, StorageError> {
        let claimed = self.services.book.claim(slot, &self.owner, self.dry_run).await?;
        let is_ours = claimed.is_some();
        self.taken.extend(claimed.map(|id| (slot, id)));
        Ok(is_ours)
    }

    /// The port that a dry run gets: the next after its greatest, whoever has it.
    fn dry_port(&mut self) -> i32 {
        let ports =
            self.taken.iter().filter_map(|(slot, _)| if let Slot::Port(port) = slot { Some(*port) } else { None });
        let port = ports.max().unwrap_or(1 << 15).saturating_add(1);
        self.taken.push((Slot::Port(port), String::new()));
        i32::from(port)
    }

    /// Whatever is free: `pick` proposes one that is not in the set it is given, while there is one.
    async fn any(
        &mut self,
        pick: &(dyn Fn(&BTreeSet<Slot>) -> Slot + Send + Sync),
    ) -> Result<Option<Slot>, StorageError> {
        const ATTEMPTS: usize = 16;
        let mut known = self.held.iter().copied().chain(self.taken.iter().map(|(slot, _)| *slot)).collect();
        for attempt in 0..ATTEMPTS {
            let slot = pick(&known);
            if !known.contains(&slot) && self.this(slot).await? {
                return Ok(Some(slot));
            }
            match attempt {
                0 => known.extend(self.services.book.taken(slot).await?),
                _ => drop(known.insert(slot)),
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Claims for Services {
    async fn claim(&self, at: &Place<'_>, new: &mut dyn Object, old: Option<&dyn Object>) -> Result<Claim, ApiError> {
        if at.subresource.is_some() {
            return Ok(Claim::none());
        }
        let Some(service) = downcast_mut::<Service>(new) else { return Ok(Claim::none()) };
        let name = service.metadata.name.clone().unwrap_or_default();
        let owner = Owner { namespace: at.namespace.to_owned(), name: name.clone() };
        let old = old.and_then(downcast::<Service>);
        let held = old.map(slots_of).unwrap_or_default();
        let ranges = self.ranges(at.server.lookup.as_ref()).await?;
        let (taken, dry_run) = (Vec::new(), at.dry_run);
        let mut taking = Taking { services: self, owner: owner.clone(), held, taken, ranges, dry_run };
        let filled = self
            .fill(service.spec.get_or_insert_default(), old.and_then(|old| old.spec.as_ref()), &name, &mut taking)
            .await;
        let wanted = slots_of(service);
        let given_up = taking.held.into_iter().filter(|slot| !wanted.contains(slot)).collect();
        let taken = Taken { book: Arc::clone(&self.book), taken: taking.taken, owner, given_up };
        match filled {
            Ok(()) if at.dry_run => Ok(Claim::none()),
            Ok(()) => Ok(Claim::new(taken)),
            Err(error) => {
                Box::new(taken).settle(false).await;
                Err(error)
            }
        }
    }

    async fn release(&self, at: &Place<'_>, object: &dyn Object) {
        if let Some(Ok(address)) =
            downcast::<IPAddress>(object).and_then(|address| address.metadata.name.as_ref()).map(|name| name.parse())
        {
            self.book.restore(Slot::Address(address), object).await;
        }
        let Some(service) = downcast::<Service>(object) else { return };
        let name = service.metadata.name.clone().unwrap_or_default();
        let owner = Owner { namespace: at.namespace.to_owned(), name };
        for slot in slots_of(service) {
            self.book.release(slot, &owner).await;
        }
    }
}

#[async_trait]
impl Settle for Taken {
    async fn settle(self: Box<Self>, stored: bool) {
        if stored {
            for slot in self.given_up {
                self.book.release(slot, &self.owner).await;
            }
        } else {
            for (slot, id) in self.taken {
                self.book.undo(slot, &id).await;
            }
        }
    }
}

fn invalid(name: &str, error: FieldError) -> ApiError {
    let mut errors = FieldErrors::new();
    errors.push(error);
    ApiError::invalid(&GroupKind::new("", "Service"), name, errors)
}

#[cfg(test)]
mod tests;
