//! APIServices that this server keeps: one for each group and version it serves. Built-in ones are written when the server
//! starts; those of CustomResourceDefinitions come and go with these; remote ones are told whether they can be reached.
//!
//! Entry points: [`ensure`] and [`keep`]. Upstream: kube-aggregator's autoregister, crdregistration and availability controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::error::ApiError;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::RETRY;
use super::writer::Writer;
use crate::ApiServer;
use crate::aggregation::{GROUP, PLURAL};
use crate::cache::{Selection, WatchFrom, Watcher};
use crate::http::health::Step;
use crate::resources::api_service::{AVAILABLE, condition, is_local};
use crate::resources::priorities::{self, Priority};
use crate::view::prefix;

/// Says who keeps an APIService: `onstart` for built-in groups, `true` for those of definitions.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const DEFINITIONS: &str = "apiextensions.k8s.io";

/// Writes the APIServices of what is built in.
pub(super) async fn ensure(writer: &Writer) -> Result<(), ApiError> {
    let served = writer.server.resources.served();
    let versions: BTreeSet<(String, String)> =
        served.rows().iter().map(|row| (row.info().group.clone(), row.info().version.clone())).collect();
    let wanted = versions
        .iter()
        .filter_map(|(group, version)| Some(api_service(group, version, priorities::of(group, version)?, "onstart")));
    try_join_all(wanted.map(|wanted| bring_about(writer, wanted))).await.map(drop)
}

/// Keeps the others true until the server ends.
pub(crate) async fn keep(server: Arc<ApiServer>, token: CancellationToken) {
    let mut watchers = Watchers::open(&server);
    server.steps.done(&[Step::AggregationInformers]);
    loop {
        let writer = Writer::new(&server);
        match bring_up_to_date(&writer).await {
            Ok(()) => server.steps.done(&[Step::Registration, Step::AggregationStatus]),
            Err(error) => tracing::debug!(%error, "APIServices were not brought up to date"),
        }
        let more = tokio::select! {
            biased;
            () = token.cancelled() => return,
            more = watchers.changed() => more,
        };
        if !more {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = sleep(RETRY) => {}
            }
            watchers = Watchers::open(&server);
        }
    }
}

/// What decides about APIServices. Services and endpoints only matter while one is remote.
struct Watchers {
    definitions: Option<Watcher>,
    services: Option<Watcher>,
    backends: [Option<Watcher>; 2],
    server: Arc<ApiServer>,
}

impl Watchers {
    fn open(server: &Arc<ApiServer>) -> Self {
        Self {
            definitions: watch(server, DEFINITIONS, "customresourcedefinitions"),
            services: watch(server, GROUP, PLURAL),
            backends: [None, None],
            server: Arc::clone(server),
        }
    }

    /// Waits for a change; false when a watch has ended.
    async fn changed(&mut self) -> bool {
        let remote = !self.server.remotes().is_empty();
        if remote && self.backends.iter().all(Option::is_none) {
            self.backends = ["services", "endpoints"].map(|plural| watch(&self.server, "", plural));
            return true;
        }
        if !remote {
            self.backends = [None, None];
        }
        let [one, other] = &mut self.backends;
        tokio::select! {
            biased;
            more = next(&mut self.definitions) => more,
            more = next(&mut self.services) => more,
            more = next(one) => more,
            more = next(other) => more,
        }
    }
}

fn watch(server: &ApiServer, group: &str, plural: &str) -> Option<Watcher> {
    let resource = server.cache.resource(&prefix(group, plural, ""))?;
    resource.watch(WatchFrom::After(resource.revision()), Selection::everything()).ok()
}

async fn next(watcher: &mut Option<Watcher>) -> bool {
    match watcher {
        Some(watcher) => watcher.next().await.is_some(),
        None => std::future::pending().await,
    }
}

async fn bring_up_to_date(writer: &Writer) -> Result<(), ApiError> {
    let wanted = of_definitions(writer);
    for (group, version) in &wanted {
        bring_about(writer, api_service(group, version, priorities::CUSTOM, "true")).await?;
    }
    for item in writer.server.view.list(GROUP, PLURAL, "") {
        let Ok(found) = serde_json::from_slice::<APIService>(&item.bytes) else { continue };
        let spec = found.spec.clone().unwrap_or_default();
        let place = (spec.group.unwrap_or_default(), spec.version.unwrap_or_default());
        if automanaged(&found) == Some("true") && !wanted.contains(&place) {
            writer.delete::<APIService>("", &name(&place.0, &place.1)).await?;
        } else if !is_local(&found) {
            tell_availability(writer, &found).await?;
        }
    }
    Ok(())
}

/// Groups and versions that definitions serve.
fn of_definitions(writer: &Writer) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for item in writer.server.view.list(DEFINITIONS, "customresourcedefinitions", "") {
        let Ok(definition) = serde_json::from_slice::<Value>(&item.bytes) else { continue };
        let group = definition.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default();
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.into_iter().flatten().filter(|version| version["served"] == true) {
            found.insert((group.to_owned(), version["name"].as_str().unwrap_or_default().to_owned()));
        }
    }
    found
}

fn automanaged(object: &APIService) -> Option<&str> {
    object.metadata.labels.as_ref()?.get(AUTOMANAGED).map(String::as_str)
}

fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

fn api_service(group: &str, version: &str, priority: Priority, managed: &str) -> APIService {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    APIService {
        metadata: ObjectMeta {
            name: Some(name(group, version)),
            labels: Some(BTreeMap::from([(AUTOMANAGED.to_owned(), managed.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            group: text(group),
            version: text(version),
            group_priority_minimum: priority.group,
            version_priority: priority.version,
            ..APIServiceSpec::default()
        }),
        status: None,
    }
}

/// Creates an APIService, or corrects one that is kept by us; somebody's own stays as it is.
async fn bring_about(writer: &Writer, wanted: APIService) -> Result<(), ApiError> {
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let Some(found) = writer.get::<APIService>("", &name) else { return writer.create(wanted).await };
    if automanaged(&found).is_none() || (found.spec == wanted.spec && automanaged(&found) == automanaged(&wanted)) {
        return Ok(());
    }
    let mut next = found;
    next.spec = wanted.spec;
    next.metadata.labels.get_or_insert_default().extend(wanted.metadata.labels.unwrap_or_default());
    // Another server that starts now may have done it.
    writer.replace(next).await.or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error) })
}

/// Writes the condition of a remote APIService, if it changed.
async fn tell_availability(writer: &Writer, found: &APIService) -> Result<(), ApiError> {
    let (reason, message) = unavailable(writer, found);
    let known = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known = known.clone().find(|condition| condition.type_ == AVAILABLE);
    if known.is_some_and(|known| known.reason.as_deref() == Some(reason) && known.message.as_ref() == Some(&message)) {
        return Ok(());
    }
    let now = writer.server.clock.now_seconds();
    let since = known.filter(|known| known.status == "False").and_then(|known| known.last_transition_time.clone());
    let name = found.metadata.name.clone().unwrap_or_default();
    let Some(mut next) = writer.get::<APIService>("", &name) else { return Ok(()) };
    let conditions = next.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != AVAILABLE);
    conditions.push(condition("False", reason, &message, since.or(Some(Time(now)))));
    writer.replace_status(next).await.or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error) })
}

/// Why a remote APIService can't be used: what is wrong with its Service, else that this server passes nothing on.
fn unavailable(writer: &Writer, found: &APIService) -> (&'static str, String) {
    let spec = found.spec.clone().unwrap_or_default();
    let reference = spec.service.unwrap_or_default();
    let (namespace, name) = (reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
    let port = reference.port.unwrap_or(443);
    let at = format!("service/{name} in {}", api::field::go_quote(&namespace));
    let Some(service) = writer.get::<Service>(&namespace, &name) else {
        return ("ServiceNotFound", format!("{at} is not present"));
    };
    let spec_of_service = service.spec.unwrap_or_default();
    if spec_of_service.type_.as_deref().unwrap_or("ClusterIP") == "ClusterIP" {
        let ports = spec_of_service.ports.unwrap_or_default();
        let Some(wanted) = ports.iter().find(|candidate| candidate.port == port) else {
            return ("ServicePortError", format!("{at} is not listening on port {port}"));
        };
        let Some(endpoints) = writer.get::<Endpoints>(&namespace, &name) else {
            return ("EndpointsNotFound", format!("cannot find endpointslices for {at}"));
        };
        let wanted = wanted.name.clone().unwrap_or_default();
        let mut subsets = endpoints.subsets.iter().flatten();
        let has = subsets.any(|subset| {
            subset.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty())
                && subset.ports.iter().flatten().any(|port| port.name.clone().unwrap_or_default() == wanted)
        });
        if !has {
            let quoted = api::field::go_quote(&wanted);
            return ("MissingEndpoints", format!("endpointslices for {at} have no addresses with port name {quoted}"));
        }
    }
    let (group, version) = (spec.group.unwrap_or_default(), spec.version.unwrap_or_default());
    ("FailedDiscoveryCheck", format!("this server does not pass requests for {group}/{version} on to {at}"))
}
