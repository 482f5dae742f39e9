//! `kubectl api-versions`.

use std::collections::BTreeSet;

use crate::failure::Result;
use crate::output;
use crate::session::Session;

/// Lists the groups and versions that the server has.
pub async fn run(session: &Session) -> Result<()> {
    let versions: BTreeSet<String> = session.resources().await?.iter().map(|resource| resource.api_version()).collect();
    versions.iter().try_for_each(|version| output::line(version))
}
