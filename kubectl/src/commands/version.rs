//! `kubectl version`.

use crate::failure::Result;
use crate::output;
use crate::session::Session;

/// The Kubernetes version whose behaviour this kubectl follows.
const CLIENT: &str = "v1.36.2";

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the client's
    #[arg(long)]
    pub client: bool,
    /// Output format: json or yaml
    #[arg(short, long)]
    output: Option<String>,
}

/// The client's version alone.
pub fn client() -> Result<()> {
    output::line(&format!("Client Version: {CLIENT}"))
}

/// Client's and server's version.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let server = session.get("/version").await;
    if args.output.is_some() {
        let versions = serde_json::json!({"clientVersion": {"gitVersion": CLIENT}, "serverVersion": server?});
        return output::print(&output::Format::parse(args.output.as_deref())?, &versions, true);
    }
    client()?;
    output::line(&format!("Server Version: {}", server?["gitVersion"].as_str().unwrap_or_default()))
}
