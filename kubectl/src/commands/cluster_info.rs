//! `kubectl cluster-info`.

use crate::failure::Result;
use crate::output;
use crate::session::Session;

/// Prints where the control plane is, once it answers.
pub async fn run(session: &Session) -> Result<()> {
    let services = session
        .get("/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue")
        .await?;
    output::line(&format!("Kubernetes control plane is running at {}", session.server))?;
    for service in services["items"].as_array().into_iter().flatten() {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let title = service["metadata"]["labels"]["kubernetes.io/name"].as_str().unwrap_or(name);
        let port = service["spec"]["ports"][0]["name"].as_str().map(|port| format!(":{port}")).unwrap_or_default();
        output::line(&format!(
            "{title} is running at {}/api/v1/namespaces/kube-system/services/{name}{port}/proxy",
            session.server
        ))?;
    }
    Ok(())
}
