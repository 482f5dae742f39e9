//! API priority and fairness: under overload each request waits its turn, or is told to come again; no client starves another.
//!
//! Source: KEP-1040 and <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>. A request belongs to the first
//! flow schema that matches it ([`schema`]); the schema names a priority level, which has a share of the server's seats
//! ([`shares`]) and fair queues for what exceeds it ([`queues`], [`level`]). Entry points: [`FlowControl::configure`],
//! [`FlowControl::admit`]. Invariant: a server that is not overloaded lets every request run without waiting.

pub mod level;
pub mod objects;
pub mod queues;
pub mod schema;
pub mod shares;
pub mod shuffle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use process::metrics::{Registry, SECONDS};
use tokio::time::Instant;

use self::level::{Level, Refusal, Seat};
use self::queues::Settings;
use self::schema::{Counts, Schema};
use self::shares::Terms;
use crate::authn::User;
use crate::http::request_info::RequestInfo;

const SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Seats are lent and taken back at most this often.
const REBALANCE_EVERY: Duration = Duration::from_millis(10);

/// See the module.
pub struct FlowControl {
    seats: u32,
    registry: Registry,
    rules: RwLock<Arc<Rules>>,
    rebalanced: Mutex<Option<Instant>>,
}

/// What is in force.
struct Rules {
    /// In the order in which they are tried.
    schemas: Vec<Arc<Schema>>,
    /// Takes what matches none, such as requests of users in no group at all.
    catch_all: Arc<Schema>,
    levels: Vec<Arc<Level>>,
}

/// What a request was taken for.
pub struct Verdict {
    schema: Arc<Schema>,
    /// The right to run, while it is kept; or why there is none.
    pub seat: Result<Seat, Refusal>,
}

impl Verdict {
    /// Marks the answer with what the request was taken for: uids, because names may be confidential.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(LEVEL_HEADER, self.schema.level.uid.clone());
        headers.insert(SCHEMA_HEADER, self.schema.uid.clone());
    }
}

impl FlowControl {
    /// With so many seats in all, and the mandatory objects only.
    pub fn new(seats: u32, registry: Registry) -> Self {
        let rules = RwLock::new(Arc::new(Self::rules_of(&registry, seats, &[], &[], &[])));
        Self { seats, registry, rules, rebalanced: Mutex::default() }
    }

    /// Puts these objects into force, and the mandatory ones that are not among them. Levels that stay as they are keep their
    /// queues; those of others drain.
    pub fn configure(&self, levels: &[PriorityLevelConfiguration], schemas: &[FlowSchema]) {
        let before = self.rules();
        let rules = Self::rules_of(&self.registry, self.seats, &before.levels, levels, schemas);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    fn rules_of(
        registry: &Registry,
        seats: u32,
        before: &[Arc<Level>],
        levels: &[PriorityLevelConfiguration],
        schemas: &[FlowSchema],
    ) -> Rules {
        let mut found: BTreeMap<&str, Arc<Level>> = BTreeMap::new();
        let (own_levels, own_schemas) = (objects::levels(), objects::schemas());
        for object in levels.iter().chain(mandatory(&own_levels)) {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            if !found.contains_key(name)
                && let Some(level) = level(registry, before, name, object)
            {
                found.insert(name, level);
            }
        }
        let mut in_force: BTreeMap<&str, Arc<Schema>> = BTreeMap::new();
        for object in schemas.iter().chain(mandatory(&own_schemas)) {
            let (name, wanted) = (object.metadata.name.as_deref().unwrap_or_default(), level_of(object));
            if let Some(level) = found.get(wanted)
                && !in_force.contains_key(name)
            {
                let counts = counts(registry, name, wanted);
                in_force.insert(name, Arc::new(Schema::new(object, Arc::clone(level), counts)));
            }
        }
        let catch_all =
            in_force.get(objects::CATCH_ALL).map(Arc::clone).expect("mandatory schemas are always in force");
        let mut schemas: Vec<_> = in_force.into_values().collect();
        schemas.sort_by(|one, other| one.order().cmp(&other.order()));
        let levels: Vec<_> = found.into_values().collect();
        let terms: Vec<_> = levels.iter().map(|level| level.terms).collect();
        for (level, bounds) in levels.iter().zip(shares::bounds(seats, &terms)) {
            level.set_bounds(bounds);
        }
        Rules { schemas, catch_all, levels }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the request may run. `width` says how many seats it takes, given the most that it may take.
    pub async fn admit(&self, user: &User, info: &RequestInfo, width: impl FnOnce(u32) -> u32) -> Verdict {
        let rules = self.rules();
        let matching = rules.schemas.iter().find(|schema| schema.matches(user, info));
        let schema = Arc::clone(matching.unwrap_or(&rules.catch_all));
        if schema.level.is_exempt() {
            let seat = schema.level.enter(0, 1).await;
            schema.counts.dispatched.increment();
            return Verdict { schema, seat };
        }
        let seats = width(schema.level.widest()).max(1);
        let hash = shuffle::flow_hash(&schema.name, schema.distinguish(user, info));
        let waits = !schema.level.has_room(seats);
        if waits {
            self.rebalance(&rules, &schema.level, seats);
        }
        drop(rules);
        let arrived = Instant::now();
        let seat = schema.level.enter(hash, seats).await;
        match &seat {
            Ok(_) => {
                schema.counts.dispatched.increment();
                if waits {
                    schema.counts.waited.observe(arrived.elapsed());
                }
            }
            Err(refusal) => self.count_refusal(&schema, *refusal),
        }
        Verdict { schema, seat }
    }

    fn count_refusal(&self, schema: &Schema, refusal: Refusal) {
        let labels =
            [("priority_level", &*schema.level.name), ("flow_schema", &*schema.name), ("reason", refusal.as_str())];
        let name = "apiserver_flowcontrol_rejected_requests_total";
        self.registry.counter(name, "Requests that were refused.", &labels).increment();
    }

    /// A level needs more seats than it has: those that others do not use are lent.
    fn rebalance(&self, rules: &Rules, needy: &Arc<Level>, seats: u32) {
        let now = Instant::now();
        {
            let mut last = self.rebalanced.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.saturating_duration_since(last) < REBALANCE_EVERY) {
                return;
            }
            *last = Some(now);
        }
        let limited = || rules.levels.iter().filter(|level| !level.is_exempt());
        let demands: Vec<_> = limited()
            .map(|level| {
                let (bounds, demand) = level.demand();
                (bounds, if Arc::ptr_eq(level, needy) { demand.saturating_add(seats) } else { demand })
            })
            .collect();
        for (level, limit) in limited().zip(shares::allocate(self.seats, &demands)) {
            level.set_limit(limit);
        }
    }
}

/// The level of an object: the one there is, if nothing about it has changed. A broken object is as good as absent.
fn level(
    registry: &Registry,
    before: &[Arc<Level>],
    name: &str,
    object: &PriorityLevelConfiguration,
) -> Option<Arc<Level>> {
    let spec = object.spec.as_ref()?;
    let uid = uid(&object.metadata);
    let (terms, settings) = match (spec.type_.as_str(), &spec.limited) {
        ("Exempt", None) if name == objects::EXEMPT => {
            let exempt = spec.exempt.clone().unwrap_or_default();
            let terms = terms(exempt.nominal_concurrency_shares, exempt.lendable_percent, None);
            (terms, None)
        }
        ("Limited", Some(limited)) => {
            let queuing = limited.limit_response.as_ref().and_then(|response| response.queuing.as_ref());
            let settings = queuing.map_or_else(Settings::default, |queuing| Settings {
                queues: number(queuing.queues) as usize,
                hand: number(queuing.hand_size).max(1) as usize,
                length: number(queuing.queue_length_limit) as usize,
            });
            let borrows = limited.borrowing_limit_percent;
            (terms(limited.nominal_concurrency_shares, limited.lendable_percent, borrows), Some(settings))
        }
        _ => return None,
    };
    let same = |level: &&Arc<Level>| {
        level.name == name && level.uid == uid && level.terms == terms && level.settings() == settings
    };
    if let Some(level) = before.iter().find(same) {
        return Some(Arc::clone(level));
    }
    Some(Arc::new(match settings {
        None => Level::exempt(name, uid, terms, registry),
        Some(settings) => Level::limited(name, uid, terms, settings, registry),
    }))
}

fn counts(registry: &Registry, schema: &str, level: &str) -> Counts {
    let labels = [("priority_level", level), ("flow_schema", schema)];
    let name = "apiserver_flowcontrol_dispatched_requests_total";
    let wait = "apiserver_flowcontrol_request_wait_duration_seconds";
    Counts {
        dispatched: registry.counter(name, "Requests that were let run.", &labels),
        waited: registry.histogram(wait, "How long requests waited in queues.", &labels, SECONDS),
    }
}

/// The mandatory ones of the server's own objects.
fn mandatory<T>(given: &[objects::Given<T>]) -> impl Iterator<Item = &T> {
    given.iter().filter(|given| given.mandatory).map(|given| &given.object)
}

/// The level that a schema names.
pub fn level_of(schema: &FlowSchema) -> &str {
    schema.spec.as_ref().map_or("", |spec| &spec.priority_level_configuration.name)
}

fn uid(metadata: &ObjectMeta) -> HeaderValue {
    let uid = metadata.uid.as_deref().unwrap_or_default();
    HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""))
}

fn number(value: Option<i32>) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or_default()
}

fn terms(shares: Option<i32>, lendable: Option<i32>, borrowing: Option<i32>) -> Terms {
    Terms {
        shares: number(shares),
        lendable_percent: number(lendable),
        borrowing_percent: borrowing.map(|percent| number(Some(percent))),
    }
}
