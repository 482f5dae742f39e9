//! `kubectl auth can-i` and `kubectl auth whoami`: what the server thinks of one's rights and of oneself.

use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::{Value, json};

use super::format;
use crate::failure::{Failure, Result};
use crate::output::table::align;
use crate::output::{self, Format};
use crate::session::Session;

/// Verbs that the server's own resources know; others may be meant, but are worth a word.
const VERBS: [&str; 16] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "impersonate",
    "*",
    "approve",
    "sign",
    "escalate",
    "attest",
];
const URL_VERBS: [&str; 8] = ["get", "put", "post", "head", "options", "delete", "patch", "*"];

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check whether an action is allowed
    CanI(CanI),
    /// Check self subject attributes
    Whoami(WhoAmI),
}

/// Flags of `can-i`.
#[derive(Debug, clap::Args)]
pub struct CanI {
    /// VERB [TYPE | TYPE/NAME | NONRESOURCEURL]
    args: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Print all that is allowed
    #[arg(long)]
    list: bool,
    /// Only the exit code says it
    #[arg(short, long)]
    quiet: bool,
    /// A subresource, such as log
    #[arg(long, default_value = "")]
    subresource: String,
    /// With --list: no heading
    #[arg(long)]
    no_headers: bool,
}

/// Flags of `whoami`.
#[derive(Debug, clap::Args)]
pub struct WhoAmI {
    /// Output format: json, yaml, jsonpath=…
    #[arg(short, long)]
    output: Option<String>,
}

/// Asks.
pub async fn run(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::CanI(args) if args.list => list(session, &args).await,
        Command::CanI(args) => can_i(session, &args).await,
        Command::Whoami(args) => who_am_i(session, &args).await,
    }
}

async fn can_i(session: &Session, args: &CanI) -> Result<()> {
    let [verb, what] = args.args.as_slice() else {
        return Err(Failure::usage(
            "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth can-i -h' for help and examples.",
        ));
    };
    let spec = match what.starts_with('/') {
        true => {
            warn_unless_known(verb, &URL_VERBS);
            json!({"nonResourceAttributes": {"verb": verb, "path": what}})
        }
        false => {
            warn_unless_known(verb, &VERBS);
            json!({"resourceAttributes": attributes(session, args, verb, what).await?})
        }
    };
    let review = review("SelfSubjectAccessReview", "authorization.k8s.io/v1", spec);
    let status =
        session.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?["status"].take();
    let allowed = status["allowed"] == true;
    if !args.quiet {
        let why = ["reason", "evaluationError"].map(|field| status[field].as_str().unwrap_or_default());
        let why: String = why.iter().filter(|why| !why.is_empty()).map(|why| format!(" - {why}")).collect();
        output::line(&if allowed { "yes".to_owned() } else { format!("no{why}") })?;
    }
    if allowed { Ok(()) } else { Err(Failure::Silent) }
}

fn review(kind: &str, api_version: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "spec": spec})
}

fn warn_unless_known(verb: &str, known: &[&str]) {
    if !known.contains(&verb) {
        eprintln!("Warning: verb '{verb}' is not a known verb\n");
    }
}

async fn attributes(session: &Session, args: &CanI, verb: &str, what: &str) -> Result<Value> {
    let (kind, name) = what.split_once('/').unwrap_or((what, ""));
    let namespace = if args.all_namespaces { "" } else { session.namespace.as_str() };
    let mut attributes =
        json!({"verb": verb, "resource": kind, "name": name, "subresource": args.subresource, "namespace": namespace});
    if kind == "*" {
        return Ok(attributes);
    }
    match session.resource(kind).await {
        Ok(resource) => {
            if !resource.namespaced && !args.all_namespaces {
                let group = match resource.group.as_str() {
                    "" => String::new(),
                    group => format!(" in group '{group}'"),
                };
                eprintln!("Warning: resource '{}' is not namespace scoped{group}\n", resource.plural);
            }
            attributes["resource"] = resource.plural.clone().into();
            attributes["group"] = resource.group.clone().into();
        }
        Err(_) => {
            let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
            let of_group = if group.is_empty() { String::new() } else { format!(" in group '{group}'") };
            eprintln!("Warning: the server doesn't have a resource type '{plural}'{of_group}\n");
            attributes["resource"] = plural.into();
            attributes["group"] = group.into();
        }
    }
    Ok(attributes)
}

async fn list(session: &Session, args: &CanI) -> Result<()> {
    let review = review("SelfSubjectRulesReview", "authorization.k8s.io/v1", json!({"namespace": session.namespace}));
    let answer = session.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?;
    let status = &answer["status"];
    if status["incomplete"] == true {
        let why = status["evaluationError"].as_str().map(|why| format!(" due to {why}")).unwrap_or_default();
        eprintln!("warning: the list may be incomplete{why}");
    }
    let mut lines = rules(status);
    if !args.no_headers {
        lines.insert(0, ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"].map(str::to_owned).to_vec());
    }
    output::text(&align(&lines.iter().collect::<Vec<_>>()))
}

/// One line for each resource (and name) with all its verbs, and one for each URL; in the order of their verbs.
fn rules(status: &Value) -> Vec<Vec<String>> {
    let mut resources: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for rule in list_of(&status["resourceRules"]) {
        let names =
            if texts(&rule["resourceNames"]).is_empty() { vec![String::new()] } else { texts(&rule["resourceNames"]) };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for name in &names {
                    let verbs = resources.entry((group.clone(), resource.clone(), name.clone())).or_default();
                    let new: Vec<String> =
                        texts(&rule["verbs"]).into_iter().filter(|verb| !verbs.contains(verb)).collect();
                    verbs.extend(new);
                }
            }
        }
    }
    let of_resources = resources.into_iter().map(|((group, resource, name), verbs)| {
        let shown = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
        let verbs = verbs.join(" ");
        (
            format!("[{verbs}] [{group}] [{resource}] [{name}]"),
            [shown, "[]".into(), format!("[{name}]"), format!("[{verbs}]")],
        )
    });
    let of_urls = list_of(&status["nonResourceRules"]).iter().flat_map(|rule| {
        let verbs = texts(&rule["verbs"]).join(" ");
        texts(&rule["nonResourceURLs"]).into_iter().map(move |url| {
            (
                format!("[{verbs}] [] [] [] [{url}]"),
                [String::new(), format!("[{url}]"), "[]".into(), format!("[{verbs}]")],
            )
        })
    });
    let mut lines: Vec<(String, [String; 4])> = of_resources.chain(of_urls).collect();
    lines.sort();
    lines.into_iter().map(|(_, cells)| cells.to_vec()).collect()
}

fn list_of(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    list_of(value).iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

async fn who_am_i(session: &Session, args: &WhoAmI) -> Result<()> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
    if let Some(format) = format(args.output.as_deref())?.filter(|format| !matches!(format, Format::Table { .. })) {
        return output::print(&format, &answer, false);
    }
    let user = &answer["status"]["userInfo"];
    let mut lines = vec![vec!["ATTRIBUTE".to_owned(), "VALUE".to_owned()]];
    for (heading, field) in [("Username", "username"), ("UID", "uid")] {
        if let Some(text) = user[field].as_str().filter(|text| !text.is_empty()) {
            lines.push(vec![heading.to_owned(), text.to_owned()]);
        }
    }
    let groups = texts(&user["groups"]);
    if !groups.is_empty() {
        lines.push(vec!["Groups".to_owned(), format!("[{}]", groups.join(" "))]);
    }
    for (key, values) in user["extra"].as_object().into_iter().flatten() {
        lines.push(vec![format!("Extra: {key}"), format!("[{}]", texts(values).join(" "))]);
    }
    output::text(&align(&lines.iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_a_resource_are_one_line() {
        let status = json!({
            "resourceRules": [
                {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]},
                {"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods"]},
                {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]},
            ],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}],
        });
        let lines: Vec<String> = rules(&status).iter().map(|line| line.join("|")).collect();
        assert_eq!(
            lines,
            [
                "pods.apps|[]|[]|[get list]",
                "|[/api/*]|[]|[get]",
                "|[/healthz]|[]|[get]",
                "secrets|[]|[a]|[get]",
                "pods|[]|[]|[list get]"
            ]
        );
    }
}
