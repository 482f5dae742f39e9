//! Priority levels and flow schemas as objects, and what they do to requests when there are too many.

use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use apiserver::storage::memory::Memory;
use apiserver::storage::{Expect, Feed, KeyValue, Listed, Outcome, Storage, StorageError, Write};
use apiserver::{ApiServer, Config, User};
use axum::body::Body;
use futures::future::join_all;
use futures::stream::BoxStream;
use http::Request;
use k8s_openapi::jiff::Timestamp;
use process::{Clock, Rng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::server::Server;

const API: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

fn level(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
}

fn schema(name: &str, level: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"priorityLevelConfiguration": {"name": level}}})
}

#[tokio::test(start_paused = true)]
async fn a_cluster_begins_with_levels_and_schemas() {
    let server = Server::start().await;
    let levels = server.get(&format!("{API}/prioritylevelconfigurations")).await;
    let names = [
        "catch-all",
        "exempt",
        "global-default",
        "leader-election",
        "node-high",
        "system",
        "workload-high",
        "workload-low",
    ];
    assert_eq!(levels.names(), names);
    let schemas = server.get(&format!("{API}/flowschemas")).await;
    for item in schemas.body["items"].as_array().expect("items") {
        assert_eq!(item["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"], "true");
        assert_eq!(item["metadata"]["generation"], 1);
        let condition = &item["status"]["conditions"][0];
        let level = item["spec"]["priorityLevelConfiguration"]["name"].as_str().expect("a level");
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" and it exists");
        assert_eq!(condition["message"], message);
        assert_eq!((&condition["type"], &condition["status"]), (&json!("Dangling"), &json!("False")));
        let managers: Vec<_> = item["metadata"]["managedFields"].as_array().expect("managers").iter().collect();
        assert_eq!(managers[0]["manager"], "api-priority-and-fairness-config-consumer-v1");
        assert_eq!((&managers[0]["operation"], &managers[0]["subresource"]), (&json!("Apply"), &json!("status")));
        assert_eq!(managers[1]["manager"], "api-priority-and-fairness-config-producer-v1");
        assert_eq!(managers[1]["operation"], "Update");
    }
}

#[tokio::test(start_paused = true)]
async fn tables_are_in_the_order_in_which_schemas_are_tried() {
    let server = Server::start().await;
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = server.send("GET", &format!("{API}/flowschemas"), &accept, "").await;
    let rows = table.body["rows"].as_array().expect("rows");
    let order: Vec<_> = rows.iter().map(|row| row["cells"][2].as_i64().expect("a number")).collect();
    assert!(order.is_sorted() && order.len() == 13, "{order:?}");
    assert_eq!(rows[0]["cells"], json!(["exempt", "exempt", 1, "<none>", "0s", "False"]));
    let table = server.send("GET", &format!("{API}/prioritylevelconfigurations/system"), &accept, "").await;
    assert_eq!(table.body["rows"][0]["cells"], json!(["system", "Limited", 30, 64, 6, 50, "0s"]));
    let table = server.send("GET", &format!("{API}/prioritylevelconfigurations/exempt"), &accept, "").await;
    let none = json!(["exempt", "Exempt", "<none>", "<none>", "<none>", "<none>", "0s"]);
    assert_eq!(table.body["rows"][0]["cells"], none);
}

#[tokio::test(start_paused = true)]
async fn a_schema_says_whether_its_level_exists() {
    let server = Server::start().await;
    let path = format!("{API}/flowschemas");
    let created = server.ask("POST", &path, &schema("f", "later")).await;
    assert_eq!((created.status.as_u16(), &created.body["status"]), (201, &json!({})));
    let status = async |wanted: &str| {
        let mut seen = Value::Null;
        for _ in 0..50 {
            sleep(Duration::from_millis(10)).await;
            seen = server.get(&format!("{path}/f")).await.body["status"]["conditions"][0].clone();
            if seen["status"] == wanted {
                return seen;
            }
        }
        panic!("{seen}")
    };
    let missing = status("True").await;
    let text =
        "This FlowSchema references the PriorityLevelConfiguration object named \"later\" but there is no such object";
    assert_eq!((&missing["reason"], &missing["message"]), (&json!("NotFound"), &json!(text)));
    server.ask("POST", &format!("{API}/prioritylevelconfigurations"), &level("later")).await;
    assert_eq!(status("False").await["reason"], "Found");
}

#[tokio::test(start_paused = true)]
async fn mandatory_objects_do_not_change_and_come_back() {
    let server = Server::start().await;
    let path = format!("{API}/flowschemas/catch-all");
    let patched = server.patch("merge", &path, &json!({"spec": {"matchingPrecedence": 77}})).await;
    assert_eq!(patched.status, 422);
    assert!(patched.error().1.ends_with("spec of 'catch-all' must equal the fixed value"), "{}", patched.error().1);
    let exempt = format!("{API}/prioritylevelconfigurations/exempt");
    let lent = server.patch("merge", &exempt, &json!({"spec": {"exempt": {"lendablePercent": 20}}})).await;
    assert_eq!(lent.status, 200, "{}", lent.text);
    for name in ["flowschemas/catch-all", "flowschemas/probes", "prioritylevelconfigurations/system"] {
        assert_eq!(server.ask("DELETE", &format!("{API}/{name}"), &Value::Null).await.status, 200);
    }
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.get("/api/v1/namespaces").await.status, 200);
    sleep(Duration::from_secs(61)).await;
    for name in ["flowschemas/catch-all", "flowschemas/probes", "prioritylevelconfigurations/system"] {
        assert_eq!(server.get(&format!("{API}/{name}")).await.status, 200, "{name}");
    }
    assert_eq!(server.get(&exempt).await.body["spec"]["exempt"]["lendablePercent"], 20);
}

#[tokio::test(start_paused = true)]
async fn suggested_objects_are_the_administrators_if_they_say_so() {
    let server = Server::start().await;
    let path = format!("{API}/prioritylevelconfigurations/workload-low");
    let shares = |number: i32| json!({"spec": {"limited": {"nominalConcurrencyShares": number}}});
    let own = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}});
    let now = async || server.get(&path).await.body["spec"]["limited"]["nominalConcurrencyShares"].clone();
    assert_eq!(server.patch("merge", &path, &shares(7)).await.status, 200);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(now().await, 100);
    server.patch("merge", &path, &own).await;
    server.patch("merge", &path, &shares(7)).await;
    sleep(Duration::from_secs(61)).await;
    assert_eq!(now().await, 7);
}

/// A store whose answers take a while.
struct Slow(Memory, Duration);

#[async_trait::async_trait]
impl Storage for Slow {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StorageError> {
        self.0.get(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError> {
        self.0.list(prefix, after, limit, at).await
    }

    async fn commit(&self, key: &str, expect: Expect, write: Write) -> Result<Outcome, StorageError> {
        if key.contains("/configmaps/") {
            sleep(self.1).await;
        }
        self.0.commit(key, expect, write).await
    }

    async fn revision(&self) -> Result<Revision, StorageError> {
        self.0.revision().await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError> {
        self.0.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.0.compact(revision).await
    }
}

/// A server with 60 seats, on which a write of a ConfigMap takes 100 ms.
struct Overloaded {
    server: Arc<ApiServer>,
    token: CancellationToken,
    _tasks: tokio::task::JoinSet<()>,
}

/// An answer, and how long it took.
struct Timed {
    status: u16,
    headers: http::HeaderMap,
    text: String,
    took: Duration,
}

impl Overloaded {
    async fn start() -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse::<Timestamp>().expect("a timestamp"));
        let storage = Arc::new(Slow(Memory::new(), Duration::from_millis(100)));
        let config = Config { seats: 60, ..Config::for_tests() };
        let server = ApiServer::build(config, storage, clock, Rng::seeded(1)).expect("a server");
        let token = CancellationToken::new();
        let tasks = server.start(&token).await.expect("started");
        Self { server, token, _tasks: tasks }
    }

    /// The user creates a ConfigMap.
    async fn create(&self, user: &str, groups: &[&str], name: String) -> Timed {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let user = User { name: user.to_owned(), groups, ..User::default() };
        let request = Request::post("/api/v1/namespaces/default/configmaps")
            .header("content-type", "application/json")
            .body(Body::from(json!({"metadata": {"name": name}}).to_string()))
            .expect("a request");
        let started = Instant::now();
        let response = apiserver::in_process(Arc::clone(&self.server), user).oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Timed { status: parts.status.as_u16(), headers: parts.headers, text, took: started.elapsed() }
    }
}

impl Drop for Overloaded {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

const USERS: &[&str] = &["system:authenticated"];
const ADMINS: &[&str] = &["system:masters", "system:authenticated"];

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_user_starves_no_other() {
    let server = Overloaded::start().await;
    // Nobody but administrators may create; a 403 takes no time. So let everybody.
    let binding = json!({"metadata": {"name": "all"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:authenticated"}]});
    let admin = User { name: "admin".to_owned(), groups: vec!["system:masters".to_owned()], ..User::default() };
    let request = Request::post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings")
        .header("content-type", "application/json")
        .body(Body::from(binding.to_string()))
        .expect("a request");
    let bound = apiserver::in_process(Arc::clone(&server.server), admin).oneshot(request).await.expect("an answer");
    assert_eq!(bound.status(), 201);
    sleep(Duration::from_millis(1)).await;
    let flood = join_all((0..1_000).map(|i| server.create("loud", USERS, format!("loud-{i}"))));
    let others = async {
        sleep(Duration::from_millis(50)).await;
        let quiet = join_all((0..3).map(|i| server.create("quiet", USERS, format!("quiet-{i}")))).await;
        let admin = server.create("admin", ADMINS, "admin".to_owned()).await;
        (quiet, admin)
    };
    let (flood, (quiet, admin)) = tokio::join!(flood, others);
    // One request takes 100 ms; the flood alone keeps all seats busy for seconds.
    for one in &quiet {
        assert_eq!(one.status, 201, "{}", one.text);
        assert!(one.took <= Duration::from_millis(400), "{:?}", one.took);
    }
    assert_eq!(admin.status, 201);
    assert_eq!(admin.took, Duration::from_millis(100), "the exempt level does not wait");
    let refused: Vec<_> = flood.iter().filter(|answer| answer.status == 429).collect();
    assert!((300..800).contains(&refused.len()), "{} refused", refused.len());
    assert_eq!(refused[0].text, "Too many requests, please try again later.\n");
    assert_eq!(refused[0].headers["retry-after"], "1");
    assert!(flood.iter().all(|answer| matches!(answer.status, 201 | 429)));
    let metrics = apiserver::metrics::scrape(&server.server);
    let counted = format!(
        "apiserver_flowcontrol_rejected_requests_total{{priority_level=\"global-default\",flow_schema=\"global-default\",reason=\"queue-full\"}} {}",
        refused.len()
    );
    assert!(metrics.contains(&counted), "{counted}");
    assert!(metrics.contains("apiserver_flowcontrol_current_executing_requests{priority_level=\"global-default\"} 0"));
}

#[tokio::test(start_paused = true)]
async fn answers_name_schema_and_level_by_uid() {
    let server = Server::start().await;
    let uid = async |path: &str| {
        let object = server.get(&format!("{API}/{path}")).await;
        object.body["metadata"]["uid"].as_str().expect("a uid").to_owned()
    };
    let (schema, level) = (uid("flowschemas/exempt").await, uid("prioritylevelconfigurations/exempt").await);
    let answer = server.get("/api/v1/namespaces/none").await;
    assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"], schema);
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], level);
    let other = server.send("GET", "/api/v1/namespaces", &[("impersonate-user", "somebody")], "").await;
    assert_eq!(other.status, 403);
    assert_eq!(other.headers["x-kubernetes-pf-flowschema-uid"], uid("flowschemas/global-default").await);
    let account = [("impersonate-user", "system:serviceaccount:kube-system:x")];
    let other = server.send("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a", &account, "").await;
    assert_ne!(other.headers["x-kubernetes-pf-flowschema-uid"], schema);
}

#[tokio::test(start_paused = true)]
async fn new_schemas_are_in_force_at_once() {
    let server = Server::start().await;
    server.ask("POST", &format!("{API}/prioritylevelconfigurations"), &level("mine")).await;
    let mut own = schema("mine", "mine");
    own["spec"]["rules"] = json!([{"subjects": [{"kind": "User", "user": {"name": "me"}}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version", "/openapi/*"]}]}]);
    let created = server.ask("POST", &format!("{API}/flowschemas"), &own).await;
    let uid = created.body["metadata"]["uid"].as_str().expect("a uid").to_owned();
    sleep(Duration::from_millis(100)).await;
    let me = [("impersonate-user", "me")];
    for (path, matches) in [("/version", true), ("/openapi/v2", true), ("/healthz", false), ("/api", false)] {
        let answer = server.send("GET", path, &me, "").await;
        assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"] == uid, matches, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_give_their_turn_back_and_who_goes_away_does_not_wait_on() {
    let server = Overloaded::start().await;
    let user = User { name: "w".to_owned(), groups: vec!["system:masters".to_owned()], ..User::default() };
    let router = apiserver::in_process(Arc::clone(&server.server), user);
    let request = Request::get("/api/v1/namespaces?watch=1").body(Body::empty()).expect("a request");
    let watch = router.oneshot(request).await.expect("an answer");
    assert_eq!(watch.status(), 200);
    let running = |level: &str| {
        let line = format!("apiserver_flowcontrol_current_executing_requests{{priority_level=\"{level}\"}} 0");
        apiserver::metrics::scrape(&server.server).contains(&line)
    };
    assert!(running("exempt"), "the watch goes on without a seat");
    // Waiting requests whose clients hang up leave their queues.
    {
        let flood = join_all((0..100).map(|i| server.create("system:kube-scheduler", USERS, format!("x-{i}"))));
        assert!(tokio::time::timeout(Duration::from_millis(1), flood).await.is_err() || running("workload-high"));
    }
    assert!(running("workload-high"));
    let waiting = "apiserver_flowcontrol_current_inqueue_requests{priority_level=\"workload-high\"} 0";
    assert!(apiserver::metrics::scrape(&server.server).contains(waiting));
}
