//! Images in and out of a running runtime: archives, a registry, removal. Needs root.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use crate::lab::Lab;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use cri::images::LoadRequest;
use cri::images::image_loader_client::ImageLoaderClient;
use cri::v1;
use sha2::Digest as _;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn spec(image: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() })
}

/// The blobs of an OCI image with one gzip layer, and the digest of its index.
fn oci_blobs() -> (BTreeMap<String, Vec<u8>>, String) {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    for (path, data) in [("bin/sh", &busybox[..]), ("marker", b"from oci")] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        layer.append_data(&mut header, path, data).expect("in memory");
    }
    let layer = layer.into_inner().expect("in memory");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).expect("in memory");
    let compressed = gzip.finish().expect("in memory");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"], "User": "1000:1000"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&compressed), "size": compressed.len()}],
    });
    let manifest = manifest.to_string().into_bytes();
    let platform = |architecture: &str| serde_json::json!({"architecture": architecture, "os": "linux"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"digest": digest(b"other"), "size": 5, "platform": platform("s390x")},
        {"digest": digest(&manifest), "size": manifest.len(), "platform": platform(
            if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" })},
    ]});
    let index = index.to_string().into_bytes();
    let top = digest(&index);
    (BTreeMap::from([compressed, config, manifest, index].map(|blob| (digest(&blob), blob))), top)
}

#[derive(Clone)]
struct Registry {
    blobs: Arc<BTreeMap<String, Vec<u8>>>,
    top: String,
    address: std::net::SocketAddr,
}

async fn serve_blob(
    State(registry): State<Registry>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if headers.get("authorization").is_none_or(|a| a != "Bearer open-sesame") {
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"", registry.address);
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", realm)]).into_response();
    }
    let name = if kind == "manifests" && name == "v1" { registry.top.clone() } else { name };
    match registry.blobs.get(&name) {
        Some(blob) => blob.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn registry() -> Registry {
    let (blobs, top) = oci_blobs();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let registry = Registry { blobs: Arc::new(blobs), top, address };
    let router = Router::new()
        .route("/v2/team/app/{kind}/{name}", get(serve_blob))
        .route("/token", get(|| async { r#"{"token":"open-sesame"}"# }))
        .with_state(registry.clone());
    tokio::spawn(axum::serve(listener, router).into_future());
    registry
}

#[tokio::test]
async fn pulled_from_a_registry() {
    let mut lab = Lab::new("pull", 31).await;
    let registry = registry().await;
    let name = format!("{}/team/app:v1", registry.address);
    let pull = |image: &str| v1::PullImageRequest { image: spec(image), ..Default::default() };
    let id = lab.images.pull_image(pull(&name)).await.expect("pulled").into_inner().image_ref;
    let request = v1::ImageStatusRequest { image: spec(&name), verbose: false };
    let image = lab.images.image_status(request).await.expect("answered").into_inner().image.expect("there");
    assert_eq!((&image.id, image.uid.map(|u| u.value)), (&id, Some(1000)));
    assert_eq!(image.repo_digests, [format!("{}/team/app@{}", registry.address, registry.top)]);
    assert_eq!(image.spec.expect("set").annotations["kubelab.io/source"], "registry");
    let again = lab.images.pull_image(pull(&image.repo_digests[0])).await.expect("pulled").into_inner().image_ref;
    assert_eq!(again, id);

    let missing = format!("{}/team/app:none", registry.address);
    let error = lab.images.pull_image(pull(&missing)).await.expect_err("not there");
    assert_eq!(error.code(), tonic::Code::NotFound, "{error:?}");
    let error = lab.images.pull_image(pull("127.0.0.1:1/a")).await.expect_err("nobody there");
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");

    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("app", "read x < /marker; echo $x");
    config.image = spec(&id);
    let container = lab.run(&sandbox, config).await;
    assert_eq!(lab.ended(&container).await.exit_code, 0);
    assert_eq!(lab.log("app"), ["stdout F from oci"]);
    let user = lab.status(&container).await.user.expect("known").linux.expect("set");
    assert_eq!((user.uid, user.gid), (1000, 1000));
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn loaded_from_an_oci_archive_and_removed() {
    let mut lab = Lab::new("load", 32).await;
    let (blobs, top) = oci_blobs();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "digest": top, "size": 1, "annotations": {"org.opencontainers.image.ref.name": "team/app:v2"},
    }]});
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let mut add = |name: String, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, data).expect("in memory");
    };
    add("index.json".to_owned(), index.to_string().as_bytes());
    blobs.iter().for_each(|(digest, blob)| add(format!("blobs/{}", digest.replace(':', "/")), blob));
    let path = lab.directory.join("image.tar.gz");
    std::fs::write(&path, archive.into_inner().expect("in memory").finish().expect("in memory")).expect("written");

    let socket = format!("unix://{}", lab.directory.join("cri.sock").display());
    let mut loader = ImageLoaderClient::new(cri::transport::connect(&socket).expect("address"));
    let load = |path: &std::path::Path| LoadRequest { path: path.display().to_string() };
    let loaded = loader.load(load(&path)).await.expect("loaded").into_inner().images;
    assert_eq!(loaded[0].names, ["docker.io/team/app:v2"]);
    assert!(loader.load(load(&lab.directory.join("runtime.log"))).await.is_err());

    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("app", "while :; do read -t 1 x; done");
    config.image = spec("team/app:v2");
    let container = lab.run(&sandbox, config).await;
    let layers = || std::fs::read_dir(lab.directory.join("root/layers")).expect("readable").count();
    let before = layers();
    lab.images.remove_image(v1::RemoveImageRequest { image: spec("team/app:v2") }).await.expect("removed");
    lab.images.remove_image(v1::RemoveImageRequest { image: spec("team/app:v2") }).await.expect("idempotent");
    assert_eq!(layers(), before, "the running container keeps its layer");
    assert_eq!(lab.exec(&container, "read x < /marker; echo $x").await.1, "from oci\n");
    lab.remove_sandbox(&sandbox).await;
    let layers = std::fs::read_dir(lab.directory.join("root/layers")).expect("readable").count();
    assert_eq!(layers, before - 1);
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}
