//! What the server counts, under the names that kube-apiserver uses. Entry points: [`Observed::begin`] for each request, and
//! [`scrape`] for `/metrics`.
//!
//! Invariant: labels come from what is served, never from what a client makes up, so that the number of series is bounded.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use http_body_util::BodyExt;
use process::metrics::{Counter, Gauge, Histogram, Registry};
use tokio::time::Instant;

use crate::ApiServer;
use crate::http::request_info::RequestInfo;
use crate::resources::Strategy;
use crate::view::prefix;

const REQUESTS: &str = "apiserver_request_total";
const SECONDS: &str = "apiserver_request_duration_seconds";
const LONG_RUNNING: &str = "apiserver_longrunning_requests";
const INFLIGHT: &str = "apiserver_current_inflight_requests";
const OBJECTS: &str = "apiserver_storage_objects";

/// Upper bounds of the time a request takes, in seconds.
const BOUNDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// What is counted of requests, found without putting its labels together for each of them.
pub struct Requests {
    registry: Registry,
    read_only: Gauge,
    mutating: Gauge,
    /// By a hash of the labels and of the answer's code.
    known: Mutex<BTreeMap<u64, (Histogram, Counter)>>,
}

impl Requests {
    /// None yet.
    pub fn new(registry: &Registry) -> Arc<Self> {
        let running = |kind| registry.gauge(INFLIGHT, "Requests that are being answered.", &[("request_kind", kind)]);
        let (read_only, mutating) = (running("readOnly"), running("mutating"));
        Arc::new(Self { registry: registry.clone(), read_only, mutating, known: Mutex::default() })
    }

    /// How long requests with these labels took, and how many were answered so.
    fn answered(&self, labels: &Labels, code: u16) -> (Histogram, Counter) {
        let mut hasher = DefaultHasher::new();
        (labels.pairs(), code).hash(&mut hasher);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let made = known.entry(hasher.finish()).or_insert_with(|| {
            let pairs = labels.pairs();
            let seconds = self.registry.histogram(SECONDS, "How long requests took, in seconds.", &pairs, BOUNDS);
            (seconds, self.count(&pairs, code))
        });
        made.clone()
    }

    fn count(&self, pairs: &[(&str, &str)], code: u16) -> Counter {
        let code = code.to_string();
        let pairs: Vec<_> = pairs.iter().copied().chain([("code", code.as_str())]).collect();
        self.registry.counter(REQUESTS, "Requests by verb, resource and answer.", &pairs)
    }

    fn running(&self, labels: &Labels) -> Gauge {
        if labels.is_stream() {
            let help = "Watches and other streams that are open.";
            return self.registry.gauge(LONG_RUNNING, help, &labels.pairs());
        }
        if matches!(labels.verb, "GET" | "LIST") { self.read_only.clone() } else { self.mutating.clone() }
    }
}

/// A request that is being answered.
pub struct Observed {
    requests: Arc<Requests>,
    labels: Labels,
    started: Instant,
    running: Running,
}

/// Counts in a gauge while it lives.
struct Running(Gauge);

struct Labels {
    verb: &'static str,
    row: Option<Arc<dyn Strategy>>,
    subresource: &'static str,
    scope: &'static str,
}

impl Running {
    fn new(gauge: Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Observed {
    /// A request begins.
    pub fn begin(server: &ApiServer, info: &RequestInfo) -> Self {
        let requests = Arc::clone(&server.requests);
        let labels = Labels::of(server, info);
        let running = Running::new(requests.running(&labels));
        Self { requests, labels, started: Instant::now(), running }
    }

    /// The answer is there. A stream goes on counting as long as somebody reads it.
    pub fn end(self, response: Response) -> Response {
        let Self { requests, labels, started, running } = self;
        let code = response.status().as_u16();
        if labels.is_stream() {
            requests.count(&labels.pairs(), code).increment();
            return response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _counts = &running;
                    frame
                }))
            });
        }
        let (seconds, count) = requests.answered(&labels, code);
        seconds.observe(started.elapsed());
        count.increment();
        response
    }
}

impl Labels {
    fn of(server: &ApiServer, info: &RequestInfo) -> Self {
        let served = info
            .resource
            .as_ref()
            .and_then(|at| Some((at, server.resources.find(&at.group, &at.version, &at.resource)?)));
        let Some((at, row)) = served else {
            return Self { verb: verb(info.verb, ""), row: None, subresource: "", scope: "" };
        };
        let known = row.info().subresources.iter().map(|sub| sub.as_str()).find(|sub| *sub == at.subresource);
        let subresource = known.unwrap_or_default();
        let scope = match (at.named, at.namespace.is_empty()) {
            (true, _) => "resource",
            (false, false) => "namespace",
            (false, true) => "cluster",
        };
        Self { verb: verb(info.verb, subresource), row: Some(row), subresource, scope }
    }

    fn pairs(&self) -> [(&'static str, &str); 6] {
        let [group, version, resource] = self.row.as_ref().map_or([""; 3], |row| {
            let info = row.info();
            [info.group.as_str(), &info.version, &info.plural]
        });
        [
            ("verb", self.verb),
            ("group", group),
            ("version", version),
            ("resource", resource),
            ("subresource", self.subresource),
            ("scope", self.scope),
        ]
    }

    fn is_stream(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT")
    }
}

fn verb(verb: &str, subresource: &str) -> &'static str {
    match (verb, subresource) {
        (_, "exec" | "attach" | "portforward" | "proxy" | "log") => "CONNECT",
        ("get" | "head", _) => "GET",
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("create" | "post", _) => "POST",
        ("update" | "put", _) => "PUT",
        ("patch", _) => "PATCH",
        ("delete", _) => "DELETE",
        ("deletecollection", _) => "DELETECOLLECTION",
        _ => "other",
    }
}

/// The text of `/metrics`.
pub fn scrape(server: &ApiServer) -> String {
    for row in server.resources.served().rows() {
        let info = row.info();
        let Some(resource) = server
            .cache
            .resource(&info.key_prefix())
            .filter(|_| info.key_prefix() == prefix(&info.group, &info.plural, ""))
        else {
            continue;
        };
        let name = info.group_resource().to_string();
        let count = i64::try_from(resource.snapshot().len()).unwrap_or(i64::MAX);
        server.metrics.gauge(OBJECTS, "Stored objects by resource.", &[("resource", &name)]).set(count);
    }
    server.metrics.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Config;
    use crate::storage::memory::Memory;
    use axum::extract::Request;
    use process::{Clock, Rng};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    #[tokio::test(start_paused = true)]
    async fn requests_streams_and_objects_are_counted() {
        let clock = Clock::starting_at(k8s_openapi::jiff::Timestamp::from_second(1_700_000_000).unwrap());
        let server =
            ApiServer::build(Config::for_tests(), Arc::new(Memory::new()), clock, Rng::seeded(1)).expect("a server");
        let token = CancellationToken::new();
        let _tasks = server.start(&token).await.expect("started");
        let router = crate::in_process(Arc::clone(&server), crate::User::apiserver());
        let get = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
            router.clone().oneshot(request).await.expect("an answer")
        };
        let found = |line: &str| scrape(&server).lines().any(|known| known == line);
        let watch = get("/api/v1/namespaces?watch=1").await;
        assert_eq!(get("/api/v1/namespaces").await.status(), 200);
        assert_eq!(get("/api/v1/namespaces/none").await.status(), 404);
        assert_eq!(get("/api/v1/made-up-by-a-client").await.status(), 404);
        let labels = |verb: &str, scope: &str| {
            format!(
                "verb=\"{verb}\",group=\"\",version=\"v1\",resource=\"namespaces\",subresource=\"\",scope=\"{scope}\""
            )
        };
        assert!(found(&format!("{REQUESTS}{{{},code=\"200\"}} 1", labels("LIST", "cluster"))));
        assert!(found(&format!("{REQUESTS}{{{},code=\"404\"}} 1", labels("GET", "resource"))));
        assert!(found(&format!("{SECONDS}_count{{{}}} 1", labels("LIST", "cluster"))));
        assert!(found(&format!("{LONG_RUNNING}{{{}}} 1", labels("WATCH", "cluster"))));
        assert!(found(&format!("{OBJECTS}{{resource=\"namespaces\"}} 4")));
        assert!(!scrape(&server).contains("made-up"));
        drop(watch);
        assert!(found(&format!("{LONG_RUNNING}{{{}}} 0", labels("WATCH", "cluster"))));
        token.cancel();
    }
}
