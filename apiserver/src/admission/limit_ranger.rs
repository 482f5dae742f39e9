//! LimitRanger: what pods and claims ask for lies within the namespace's LimitRanges; containers that say nothing get their
//! defaults, and the pod says so in an annotation.

use std::collections::BTreeMap;

use api::error::ApiError;
use api::pods::{self, Resources};
use api::quantity::Quantity;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use super::{Attributes, Lookup, Operation, Plugin};
use crate::object::{Object, downcast, downcast_mut};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// See the module.
pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        let (create, update) = (attributes.operation == Operation::Create, attributes.operation == Operation::Update);
        create && attributes.is("", "pods") || (create || update) && attributes.is("", "persistentvolumeclaims")
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let ranges = ranges(attributes, lookup).await?;
        if let Some(pod) = object.and_then(downcast_mut::<Pod>) {
            ranges.iter().for_each(|range| fill(range, pod));
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(object) = object.filter(|object| object.metadata().deletion_timestamp.is_none()) else {
            return Ok(());
        };
        for range in ranges(attributes, lookup).await? {
            let wrong = match (downcast::<Pod>(object), downcast::<PersistentVolumeClaim>(object)) {
                (Some(pod), _) => pod_violations(&range, pod),
                (None, Some(claim)) => claim_violations(&range, claim),
                (None, None) => Vec::new(),
            };
            if !wrong.is_empty() {
                return Err(attributes.forbidden(Some(object), &together(wrong)));
            }
        }
        Ok(())
    }
}

async fn ranges(attributes: &Attributes<'_>, lookup: &dyn Lookup) -> Result<Vec<LimitRange>, ApiError> {
    let found = lookup.list("", "limitranges", attributes.namespace).await?;
    found.iter().map(|bytes| serde_json::from_slice(bytes).map_err(ApiError::internal)).collect()
}

fn items(range: &LimitRange) -> &[LimitRangeItem] {
    range.spec.as_ref().map(|spec| spec.limits.as_slice()).unwrap_or_default()
}

/// Several errors as upstream joins them, each once.
fn together(wrong: Vec<String>) -> String {
    let mut unique: Vec<String> = Vec::new();
    for one in wrong {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    match unique.as_slice() {
        [only] => only.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

type Amounts = BTreeMap<String, Wire>;

/// Gives the pod's containers what a range says about containers that say nothing.
fn fill(range: &LimitRange, pod: &mut Pod) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for limit in items(range).iter().filter(|limit| limit.type_ == "Container") {
        requests.extend(limit.default_request.clone().unwrap_or_default());
        limits.extend(limit.default.clone().unwrap_or_default());
    }
    let Some(spec) = pod.spec.as_mut() else { return };
    let mut set = Vec::new();
    for container in &mut spec.containers {
        fill_container(container, "container", &requests, &limits, &mut set);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        fill_container(container, "init container", &requests, &limits, &mut set);
    }
    if !set.is_empty() {
        let said = format!("LimitRanger plugin set: {}", set.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), said);
    }
}

fn fill_container(container: &mut Container, what: &str, requests: &Amounts, limits: &Amounts, set: &mut Vec<String>) {
    let own = container.resources.get_or_insert_default();
    let added_limits = add_missing(&mut own.limits, limits);
    let added_requests = add_missing(&mut own.requests, requests);
    for (added, kind) in [(added_requests, "request"), (added_limits, "limit")] {
        if !added.is_empty() {
            set.push(format!("{} {kind} for {what} {}", added.join(", "), container.name));
        }
    }
}

/// The names that were missing, sorted.
fn add_missing(own: &mut Option<Amounts>, defaults: &Amounts) -> Vec<String> {
    let mut added = Vec::new();
    for (resource, amount) in defaults {
        let own = own.get_or_insert_default();
        if !own.contains_key(resource) {
            own.insert(resource.clone(), amount.clone());
            added.push(resource.clone());
        }
    }
    added
}

/// What somebody asks for, as a range looks at it.
struct Asked {
    requests: Resources,
    limits: Resources,
}

impl Asked {
    fn of_container(resources: Option<&ResourceRequirements>) -> Self {
        let of = |amounts: Option<&Amounts>| Resources::from_wire(amounts);
        Self {
            requests: of(resources.and_then(|own| own.requests.as_ref())),
            limits: of(resources.and_then(|own| own.limits.as_ref())),
        }
    }

    fn of_pod(spec: &PodSpec) -> Self {
        Self { requests: pods::container_requests(spec), limits: pods::container_limits(spec) }
    }
}

fn pod_violations(range: &LimitRange, pod: &Pod) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(spec) = pod.spec.as_ref() else { return wrong };
    for limit in items(range) {
        match limit.type_.as_str() {
            "Container" => {
                for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
                    check(limit, &Asked::of_container(container.resources.as_ref()), &mut wrong);
                }
            }
            "Pod" => check(limit, &Asked::of_pod(spec), &mut wrong),
            _ => {}
        }
    }
    wrong
}

fn claim_violations(range: &LimitRange, claim: &PersistentVolumeClaim) -> Vec<String> {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let asked = Asked { requests: Resources::from_wire(requests), limits: Resources::default() };
    let mut wrong = Vec::new();
    for limit in items(range).iter().filter(|limit| limit.type_ == "PersistentVolumeClaim") {
        let rule = Rule { limit, asked: &asked };
        wrong.extend(amounts(&limit.min).filter_map(|(resource, bound)| rule.min(&resource, bound)));
        wrong.extend(amounts(&limit.max).filter_map(|(resource, bound)| rule.max_request(&resource, bound)));
    }
    wrong
}

fn check(limit: &LimitRangeItem, asked: &Asked, wrong: &mut Vec<String>) {
    let rule = Rule { limit, asked };
    wrong.extend(amounts(&limit.min).filter_map(|(resource, bound)| rule.min(&resource, bound)));
    wrong.extend(amounts(&limit.max).filter_map(|(resource, bound)| rule.max(&resource, bound)));
    wrong.extend(amounts(&limit.max_limit_request_ratio).filter_map(|(resource, bound)| rule.ratio(&resource, bound)));
}

fn amounts(wire: &Option<Amounts>) -> impl Iterator<Item = (String, Quantity)> {
    Resources::from_wire(wire.as_ref()).0.into_iter()
}

/// One row of a range, held against what is asked for; each answer is what is wrong.
struct Rule<'a> {
    limit: &'a LimitRangeItem,
    asked: &'a Asked,
}

impl Rule<'_> {
    fn request(&self, resource: &str) -> Option<Quantity> {
        self.asked.requests.0.get(resource).copied()
    }

    fn limit(&self, resource: &str) -> Option<Quantity> {
        self.asked.limits.0.get(resource).copied()
    }

    fn min(&self, resource: &str, bound: Quantity) -> Option<String> {
        let rule = format!("minimum {resource} usage per {} is {bound}", self.limit.type_);
        match (self.request(resource), self.limit(resource)) {
            (None, _) => Some(format!("{rule}.  No request is specified")),
            (Some(request), _) if request < bound => Some(format!("{rule}, but request is {request}")),
            (_, Some(limit)) if limit < bound => Some(format!("{rule}, but limit is {limit}")),
            (Some(_), _) => None,
        }
    }

    fn max(&self, resource: &str, bound: Quantity) -> Option<String> {
        let rule = format!("maximum {resource} usage per {} is {bound}", self.limit.type_);
        match (self.limit(resource), self.request(resource)) {
            (None, _) => Some(format!("{rule}.  No limit is specified")),
            (Some(limit), _) if limit > bound => Some(format!("{rule}, but limit is {limit}")),
            (_, Some(request)) if request > bound => Some(format!("{rule}, but request is {request}")),
            (Some(_), _) => None,
        }
    }

    fn max_request(&self, resource: &str, bound: Quantity) -> Option<String> {
        let rule = format!("maximum {resource} usage per {} is {bound}", self.limit.type_);
        match self.request(resource) {
            None => Some(format!("{rule}.  No request is specified")),
            Some(request) if request > bound => Some(format!("{rule}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn ratio(&self, resource: &str, bound: Quantity) -> Option<String> {
        let rule = format!("{resource} max limit to request ratio per {} is {bound}", self.limit.type_);
        let Some(request) = self.request(resource).filter(|amount| !amount.is_zero()) else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = self.limit(resource).filter(|amount| !amount.is_zero()) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        let ratio = exactest(limit, request);
        (ratio * 1000.0 > bound.milli_value() as f64).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

/// The quotient, from thousandths unless they are too large to be counted.
fn exactest(limit: Quantity, request: Quantity) -> f64 {
    const COUNTABLE: i64 = i64::MAX / 1000;
    if limit.value() <= COUNTABLE && request.value() <= COUNTABLE {
        limit.milli_value() as f64 / request.milli_value() as f64
    } else {
        limit.value() as f64 / request.value() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    fn ranges(limits: &[Value]) -> Objects {
        let range = |(i, limit): (usize, &Value)| json!({"metadata": {"name": format!("r{i}"), "namespace": "n"}, "spec": {"limits": [limit]}});
        let all: Vec<_> = limits.iter().enumerate().map(range).collect();
        Objects::with(&all.into_iter().map(|range| ("", "limitranges", range)).collect::<Vec<_>>())
    }

    async fn admit(pod: &mut Pod, objects: &Objects) -> Result<(), String> {
        let (pods, user) = (resource("", "pods", "Pod", true), User::default());
        let attributes = create(&pods, &user, "n");
        LimitRanger.mutate(&attributes, Some(&mut *pod), objects).await.map_err(|error| error.message)?;
        LimitRanger.validate(&attributes, Some(&*pod), objects).await.map_err(|error| error.message)
    }

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"containers": containers,
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "50m", "memory": "1Gi"}}}]}}))
        .expect("a pod")
    }

    #[tokio::test]
    async fn containers_without_amounts_get_the_defaults() {
        let objects = ranges(&[json!({"type": "Container", "default": {"cpu": "500m", "memory": "64Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "64Mi"}})]);
        let mut pod =
            pod(json!([{"name": "c"}, {"name": "d", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}]));
        admit(&mut pod, &objects).await.expect("admitted");
        let spec = serde_json::to_value(pod.spec.as_ref()).unwrap();
        assert_eq!(
            spec["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}})
        );
        assert_eq!(spec["initContainers"][0]["resources"]["requests"], json!({"cpu": "50m", "memory": "64Mi"}));
        assert_eq!(
            pod.metadata.annotations.unwrap_or_default()[ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c; \
             cpu, memory limit for container d; memory request for init container i"
        );
    }

    #[tokio::test]
    async fn amounts_lie_within_the_ranges() {
        let with = |resources: Value| json!([{"name": "c", "resources": resources}]);
        let container = |field: &str, amounts: Value| json!({"type": "Container", field: amounts});
        let table = [
            (
                container("max", json!({"cpu": "2"})),
                with(json!({"limits": {"cpu": "3"}})),
                Some("maximum cpu usage per Container is 2, but limit is 3"),
            ),
            (
                container("max", json!({"cpu": "2"})),
                with(json!({})),
                Some("maximum cpu usage per Container is 2.  No limit is specified"),
            ),
            (
                container("min", json!({"cpu": "10m"})),
                with(json!({"requests": {"cpu": "1m"}})),
                Some("minimum cpu usage per Container is 10m, but request is 1m"),
            ),
            (
                container("min", json!({"cpu": "10m"})),
                with(json!({})),
                Some("minimum cpu usage per Container is 10m.  No request is specified"),
            ),
            (container("min", json!({"cpu": "10m"})), with(json!({"requests": {"cpu": "10m"}})), None),
            (
                json!({"type": "Container", "min": {"cpu": "10m"}, "max": {"cpu": "2"}}),
                with(json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "5"}})),
                Some(
                    "[minimum cpu usage per Container is 10m, but request is 1m, maximum cpu usage per Container is 2, but limit is 5]",
                ),
            ),
            (
                container("maxLimitRequestRatio", json!({"cpu": "2"})),
                with(json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "64m"}})),
                Some("cpu max limit to request ratio per Container is 2, but provided ratio is 6.400000"),
            ),
            (
                container("maxLimitRequestRatio", json!({"cpu": "1500m"})),
                with(json!({"limits": {"cpu": "64m"}})),
                Some(
                    "cpu max limit to request ratio per Container is 1500m, but no request is specified or request is 0",
                ),
            ),
            (
                json!({"type": "Pod", "max": {"memory": "1Gi"}}),
                with(json!({"limits": {"memory": "2Gi"}})),
                Some("maximum memory usage per Pod is 1Gi, but limit is 2Gi"),
            ),
            (json!({"type": "Pod", "max": {"memory": "1Gi"}}), with(json!({})), None),
        ];
        for (limit, containers, expected) in table {
            let answer = admit(&mut pod(containers), &ranges(std::slice::from_ref(&limit))).await;
            let expected = expected.map(|why| format!("pods \"x\" is forbidden: {why}"));
            assert_eq!(answer.err(), expected, "{limit}");
        }
    }

    #[tokio::test]
    async fn claims_ask_for_amounts_within_the_ranges() {
        let objects =
            ranges(&[json!({"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}, "max": {"storage": "3Gi"}})]);
        let (claims, user) = (resource("", "persistentvolumeclaims", "PersistentVolumeClaim", true), User::default());
        let table = [
            ("1Gi", Some("minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi")),
            ("2500Mi", None),
            ("4Gi", Some("maximum storage usage per PersistentVolumeClaim is 3Gi, but request is 4Gi")),
        ];
        for (size, expected) in table {
            let claim: PersistentVolumeClaim = serde_json::from_value(
                json!({"metadata": {"name": "x"}, "spec": {"resources": {"requests": {"storage": size}}}}),
            )
            .expect("a claim");
            for operation in [Operation::Create, Operation::Update] {
                let attributes = Attributes { operation, ..create(&claims, &user, "n") };
                let answer = LimitRanger.validate(&attributes, Some(&claim), &objects).await;
                let expected = expected.map(|why| format!("persistentvolumeclaims \"x\" is forbidden: {why}"));
                assert_eq!(answer.err().map(|error| error.message), expected, "{size}");
            }
        }
    }
}
