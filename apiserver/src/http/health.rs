//! `/healthz`, `/livez`, `/readyz` with their checks, and `/version`.
//!
//! Entry point: [`Checks::answer`]. Reference: <https://kubernetes.io/docs/reference/using-api/health-checks/>.

mod steps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use process::metrics::Registry;
use serde_json::{Value, json};

pub use self::steps::{Step, Steps};

/// The Kubernetes version whose behaviour this server has.
pub const VERSION: &str = "v1.36.2";

/// One named check; the text says why it fails.
pub struct Check {
    /// Its name, also a path: `/readyz/NAME`.
    pub name: &'static str,
    /// Whether it counts for `/livez` and `/healthz` too: a process that fails it has to be restarted.
    pub live: bool,
    /// Looks.
    pub look: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// All checks of a server.
pub struct Checks {
    checks: Vec<Check>,
    draining: Arc<AtomicBool>,
    results: Registry,
}

impl Checks {
    /// The server's own checks, `ping` first and `shutdown` last.
    pub fn new(mut own: Vec<Check>) -> Self {
        let draining = Arc::new(AtomicBool::new(false));
        let stopping = draining.clone();
        let look =
            move || if stopping.load(Ordering::Relaxed) { Err("process is shutting down".to_owned()) } else { Ok(()) };
        own.insert(0, Check { name: "ping", live: true, look: Box::new(|| Ok(())) });
        own.push(Check { name: "shutdown", live: false, look: Box::new(look) });
        Self { checks: own, draining, results: Registry::new() }
    }

    /// From now on `/readyz` fails.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The paths at which single checks are asked for.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        ["healthz", "livez", "readyz"].into_iter().flat_map(|endpoint| {
            let counts = move |check: &&Check| check.live || endpoint == "readyz";
            self.checks.iter().filter(counts).map(move |check| format!("/{endpoint}/{}", check.name))
        })
    }

    /// What `/metrics/slis` answers: how the checks ended that were asked for so far. Reference: KEP-3466.
    pub fn results(&self) -> String {
        self.results.render()
    }

    fn count(&self, name: &str, endpoint: &str, holds: bool) {
        let last = "[STABLE] This metric records the result of a single healthcheck.";
        let last = self.results.gauge("kubernetes_healthcheck", last, &[("name", name), ("type", endpoint)]);
        last.set(i64::from(holds));
        let status = if holds { "success" } else { "error" };
        let labels = [("name", name), ("status", status), ("type", endpoint)];
        let all = "[STABLE] This metric records the results of all healthcheck.";
        self.results.counter("kubernetes_healthchecks_total", all, &labels).increment();
    }

    /// The answer to a path below `/healthz`, `/livez` or `/readyz`; `endpoint` is the first part, `check` the rest, if any.
    pub fn answer(&self, endpoint: &str, check: Option<&str>, query: &[(String, String)]) -> Response<Body> {
        let counts = |check: &&Check| check.live || endpoint == "readyz";
        let excluded: Vec<&str> =
            query.iter().filter(|(name, _)| name == "exclude").map(|(_, value)| value.as_str()).collect();
        let verbose = query.iter().any(|(name, _)| name == "verbose");
        if let Some(name) = check {
            let found = self.checks.iter().filter(counts).find(|check| check.name == name);
            return match found.map(|check| (check.look)()) {
                None => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
                Some(Ok(())) => text(StatusCode::OK, "ok".to_owned()),
                Some(Err(why)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
            };
        }
        let (mut lines, mut failed) = (String::new(), false);
        for check in self.checks.iter().filter(counts) {
            if excluded.contains(&check.name) {
                lines += &format!("[+]{} excluded: ok\n", check.name);
                continue;
            }
            let found = (check.look)();
            self.count(check.name, endpoint, found.is_ok());
            match found {
                Ok(()) => lines += &format!("[+]{} ok\n", check.name),
                Err(why) => {
                    tracing::debug!(check = check.name, why, "a health check fails");
                    failed = true;
                    lines += &format!("[-]{} failed: reason withheld\n", check.name);
                }
            }
        }
        let known = |name: &str| self.checks.iter().filter(counts).any(|check| check.name == name);
        let unknown: BTreeSet<String> =
            excluded.iter().filter(|name| !known(name)).map(|name| api::field::go_quote(name)).collect();
        if !unknown.is_empty() {
            lines += &format!(
                "warn: some health checks cannot be excluded: no matches for {}\n",
                Vec::from_iter(unknown).join(",")
            );
        }
        match (failed, verbose) {
            (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n")),
            (false, true) => text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
            (false, false) => text(StatusCode::OK, "ok".to_owned()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert("X-Content-Type-Options", HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// `GET /version`. Clients parse major and minor as numbers.
pub fn version() -> Value {
    let mut numbers = VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let previous = minor.parse::<u32>().unwrap_or_default().saturating_sub(1).to_string();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": previous,
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        // As upstream: what is asked is which Kubernetes this is.
        "compiler": "gc",
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response<Body>) -> (u16, String) {
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.expect("a body in memory");
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn answers_follow_the_checks() {
        let broken = Check { name: "store", live: false, look: Box::new(|| Err("no".to_owned())) };
        let checks = Checks::new(vec![broken]);
        let pair = |name: &str| (name.to_owned(), String::new());
        for (endpoint, check, query, wanted) in [
            ("livez", None, vec![], (200, "ok")),
            ("livez", None, vec![pair("verbose")], (200, "[+]ping ok\nlivez check passed\n")),
            (
                "readyz",
                None,
                vec![],
                (500, "[+]ping ok\n[-]store failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"),
            ),
            ("readyz", None, vec![("exclude".to_owned(), "store".to_owned())], (200, "ok")),
            (
                "livez",
                None,
                vec![
                    pair("verbose"),
                    ("exclude".to_owned(), "z".to_owned()),
                    ("exclude".to_owned(), "store".to_owned()),
                ],
                (
                    200,
                    "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"store\",\"z\"\nlivez check passed\n",
                ),
            ),
            ("healthz", None, vec![pair("verbose")], (200, "[+]ping ok\nhealthz check passed\n")),
            ("healthz", Some("shutdown"), vec![], (404, "404 page not found\n")),
            ("readyz", Some("ping"), vec![], (200, "ok")),
            ("readyz", Some("none"), vec![], (404, "404 page not found\n")),
            ("readyz", Some("store"), vec![], (500, "internal server error: no\n")),
        ] {
            let (status, text) = body(checks.answer(endpoint, check, &query)).await;
            assert_eq!((status, text.as_str()), wanted, "{endpoint} {check:?}");
        }
        let results = checks.results();
        for line in [
            "kubernetes_healthcheck{name=\"store\",type=\"readyz\"} 0",
            "kubernetes_healthchecks_total{name=\"store\",status=\"error\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 3",
        ] {
            assert!(results.lines().any(|known| known == line), "{line} is not in {results}");
        }
        assert!(checks.paths().any(|path| path == "/readyz/store"));
        checks.drain();
        assert!(body(checks.answer("readyz", None, &[])).await.1.contains("[-]shutdown"));
    }
}
