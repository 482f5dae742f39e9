//! What a write costs in memory that is allocated and given back: a bound, so that needless copies of objects are noticed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;

#[allow(dead_code)]
#[path = "api/server.rs"]
mod server;

struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: all work is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size.saturating_sub(layout.size()) as u64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Patches that are counted.
const PATCHES: u64 = 100;
/// Bytes that the patch of one label of a pod of 11 KB may allocate.
const MOST: u64 = 100_000;

#[tokio::test(start_paused = true)]
async fn a_patch_of_a_large_pod_allocates_little() {
    let server = server::Server::start().await;
    let env: Vec<_> = (0..40)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("the value of setting {n} {}", "x".repeat(130))}))
        .collect();
    let pod = json!({"metadata": {"name": "large", "labels": {"n": "0"}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i", "env": env}]}});
    let created = server.ask("POST", "/api/v1/namespaces/default/pods", &pod).await;
    assert!((9_000..14_000).contains(&created.text.len()), "{} bytes", created.text.len());
    let router = server.router();
    let mut before = 0;
    for n in 0..=PATCHES {
        if n == 1 {
            // The first patch also pays for what is made once.
            before = ALLOCATED.load(Ordering::Relaxed);
        }
        let request = Request::patch("/api/v1/namespaces/default/pods/large")
            .header("content-type", "application/merge-patch+json")
            .body(Body::from(json!({"metadata": {"labels": {"n": format!("{n}")}}}).to_string()))
            .expect("a request");
        let response = router.clone().oneshot(request).await.expect("the router never fails");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("a body");
    }
    let each = (ALLOCATED.load(Ordering::Relaxed) - before) / PATCHES;
    assert!(each <= MOST, "a patch allocated {each} bytes");
}
