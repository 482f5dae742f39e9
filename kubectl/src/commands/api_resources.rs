//! `kubectl api-resources`.

use crate::failure::{Failure, Result};
use crate::output;
use crate::output::table::align;
use crate::session::Session;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this group
    #[arg(long)]
    api_group: Option<String>,
    /// Only namespaced ones, or only the others
    #[arg(long)]
    namespaced: Option<bool>,
    /// Only those with all these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Output format: wide or name
    #[arg(short, long)]
    output: Option<String>,
    /// No heading
    #[arg(long)]
    no_headers: bool,
    /// By name or kind instead of group
    #[arg(long)]
    sort_by: Option<String>,
}

/// Lists the server's resources.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let wide = args.output.as_deref() == Some("wide");
    let mut lines: Vec<Vec<String>> = Vec::new();
    if !args.no_headers && args.output.as_deref() != Some("name") {
        let mut headings = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
        if wide {
            headings.extend(["VERBS", "CATEGORIES"]);
        }
        lines.push(headings.into_iter().map(str::to_owned).collect());
    }
    let mut resources: Vec<_> = session.resources().await?.iter().collect();
    resources.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    match args.sort_by.as_deref() {
        Some("name") => resources.sort_by(|a, b| a.plural.cmp(&b.plural)),
        Some("kind") => resources.sort_by(|a, b| a.kind.cmp(&b.kind)),
        Some(_) => return Err(Failure::usage("--sort-by accepts only name or kind")),
        None => {}
    }
    for resource in resources {
        let in_group = args.api_group.as_ref().is_none_or(|group| *group == resource.group);
        let in_scope = args.namespaced.is_none_or(|namespaced| namespaced == resource.namespaced);
        if !in_group || !in_scope || !args.verbs.iter().all(|verb| resource.verbs.contains(verb)) {
            continue;
        }
        if args.output.as_deref() == Some("name") {
            lines.push(vec![resource.full_name()]);
            continue;
        }
        let mut line = vec![
            resource.plural.clone(),
            resource.short_names.join(","),
            resource.api_version(),
            resource.namespaced.to_string(),
            resource.kind.clone(),
        ];
        if wide {
            line.extend([resource.verbs.join(","), resource.categories.join(",")]);
        }
        lines.push(line);
    }
    output::text(&align(&lines.iter().collect::<Vec<_>>()))
}
