//! `kubectl explain`: the fields of a type, from what the server publishes about it.
//!
//! Entry point: [`run`]; [`follow`] is pure. Reference: <https://kubernetes.io/docs/reference/kubectl/generated/kubectl_explain/>.

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::openapi::{Document, Schema};
use crate::output;
use crate::resources::Resource;
use crate::session::Session;

/// Width of a line's text.
const WIDTH: usize = 76;
/// So many of a field's allowed values are shown in a list of fields.
const SHOWN_VALUES: usize = 4;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE[.FIELD...]
    args: Vec<String>,
    /// The names of all fields at every depth
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true, default_value_t = false, action = clap::ArgAction::Set)]
    recursive: bool,
    /// Of this group and version
    #[arg(long)]
    api_version: Option<String>,
}

/// Explains a type or a field.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let [asked] = args.args.as_slice() else {
        return Err(Failure::usage(match args.args.is_empty() {
            true => {
                "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete list of supported resources."
            }
            false => "We accept only this format: explain RESOURCE",
        }));
    };
    let (resource, path) = split(session, asked, args.api_version.as_deref()).await?;
    let document = Document::of(session, resource).await?;
    let Some(schema) = document.as_ref().and_then(|document| document.kind(resource)) else {
        let Resource { group, version, plural, .. } = resource;
        return Err(Failure::usage(format!("GVR ({group}/{version}, Resource={plural}) not found in OpenAPI schema")));
    };
    output::text(&head(resource))?;
    match follow(schema, &path, args.recursive, &[]) {
        Some(text) => output::line(&text),
        None => Err(Failure::usage(format!("field \"{}\" does not exist", path.last().unwrap_or(&"")))),
    }
}

/// `deployments.apps.spec.replicas` → the resource and its field's path.
async fn split<'a, 'b>(
    session: &'a Session,
    asked: &'b str,
    api_version: Option<&str>,
) -> Result<(&'a Resource, Vec<&'b str>)> {
    let (name, rest) = asked.split_once('.').unwrap_or((asked, ""));
    let resources = session.resources().await?;
    let plain = resources.find(name)?;
    let mut found = (plain, rest);
    if let Some(wanted) = api_version {
        let is = |resource: &&Resource| resource.plural == plain.plural && resource.api_version() == wanted;
        let resource = resources.iter().find(is).ok_or_else(|| {
            Failure::usage(format!("couldn't find resource for \"{wanted}, Resource={}\"", plain.plural))
        })?;
        found = (resource, rest);
    } else {
        let same = resources.iter().filter(|resource| !resource.group.is_empty() && resource.is_named(name));
        let in_group = same.filter_map(|resource| {
            let after = rest.strip_prefix(resource.group.as_str())?;
            let after = if after.is_empty() { after } else { after.strip_prefix('.')? };
            Some((resource, after))
        });
        found = in_group.into_iter().next().unwrap_or(found);
    }
    Ok((found.0, found.1.split('.').filter(|field| !field.is_empty()).collect()))
}

fn head(resource: &Resource) -> String {
    let group = if resource.group.is_empty() { String::new() } else { format!("GROUP:      {}\n", resource.group) };
    format!("{group}KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version)
}

/// Follows the path, through lists and maps, and tells of what it leads to; None where it leads nowhere.
fn follow(schema: Schema<'_>, path: &[&str], recursive: bool, seen: &[&str]) -> Option<String> {
    let resolved = schema.resolved();
    let Some((field, rest)) = path.split_first() else {
        return Some(described(resolved, recursive));
    };
    if schema.reference().is_some_and(|reference| seen.contains(&reference)) {
        return None;
    }
    let seen: Vec<&str> = seen.iter().copied().chain(schema.reference()).collect();
    if let Some(node) = resolved.node["properties"].get(field) {
        let found = schema.at(node);
        let inner = follow(found, rest, recursive, &[])?;
        return Some(if rest.is_empty() { heading(field, found) + &inner } else { inner });
    }
    match resolved.items().or_else(|| resolved.values()) {
        Some(inner) => follow(inner, path, recursive, &seen),
        None => resolved.alternatives().find_map(|part| follow(part, path, recursive, &seen)),
    }
}

fn heading(field: &str, schema: Schema<'_>) -> String {
    let mut text = format!("FIELD: {field} <{}>\n", type_name(schema));
    if let Some(values) = schema.node["enum"].as_array() {
        text += "ENUM:";
        values.iter().for_each(|value| text += &format!("\n    {}", quoted(value)));
    }
    text + "\n\n"
}

fn described(schema: Schema<'_>, recursive: bool) -> String {
    let description = description(schema);
    let description = if description.is_empty() { "<empty>" } else { &description };
    let mut text = format!("DESCRIPTION:\n{}\n", indent(4, &wrap(WIDTH, description)));
    let mut fields = String::new();
    list_fields(&mut fields, schema, 1, recursive, &[]);
    if !fields.is_empty() {
        text += &format!("FIELDS:\n{fields}");
    }
    text
}

/// The type's own words, then those of what it is made of.
fn description(schema: Schema<'_>) -> String {
    let schema = schema.resolved();
    let own = schema.node["description"].as_str().filter(|text| !text.is_empty());
    let mut text = own.map_or(String::new(), |own| format!("{own}\n"));
    let parts = schema.alternatives().chain(schema.items()).chain(schema.values());
    parts.for_each(|part| text += &description(part));
    text
}

fn list_fields(out: &mut String, schema: Schema<'_>, level: usize, recursive: bool, seen: &[&str]) {
    if schema.reference().is_some_and(|reference| seen.contains(&reference)) {
        return;
    }
    let seen: Vec<&str> = seen.iter().copied().chain(schema.reference()).collect();
    let resolved = schema.resolved();
    for (name, node) in resolved.node["properties"].as_object().into_iter().flatten() {
        let field = schema.at(node);
        list_field(out, name, field, is_required(resolved, name), level * 2, recursive);
        if recursive {
            list_fields(out, field, level + 1, recursive, &seen);
        }
    }
    let parts = resolved.alternatives().chain(resolved.items()).chain(resolved.values());
    parts.for_each(|part| list_fields(out, part, level, recursive, &seen));
}

fn is_required(schema: Schema<'_>, name: &str) -> bool {
    schema.node["required"].as_array().is_some_and(|required| required.iter().any(|one| one == name))
}

fn list_field(out: &mut String, name: &str, schema: Schema<'_>, required: bool, depth: usize, short: bool) {
    let space = " ".repeat(depth);
    *out += &format!("{space}{name}\t<{}>{}", type_name(schema), if required { " -required-" } else { "" });
    if let Some(values) = schema.node["enum"].as_array() {
        let mut shown: Vec<String> = values.iter().take(SHOWN_VALUES).map(quoted).collect();
        shown.extend((values.len() > SHOWN_VALUES).then(|| "....".to_owned()));
        *out += &format!("\n{space}enum: {}", shown.join(", "));
    }
    *out += "\n";
    if !short {
        let text = schema.node["description"].as_str().filter(|text| !text.is_empty()).unwrap_or("<no description>");
        *out += &format!("{}\n\n", indent(depth + 2, &wrap(WIDTH + 2 - depth, text)));
    }
}

fn quoted(value: &Value) -> String {
    match value.as_str() {
        Some("") => "\"\"".to_owned(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

/// `string`, `[]Container`, `map[string]string`, `Object`.
fn type_name(schema: Schema<'_>) -> String {
    if let Some(items) = schema.items() {
        return format!("[]{}", type_name(items));
    }
    if let Some(values) = schema.values() {
        return format!("map[string]{}", type_name(values));
    }
    let mut alternatives = schema.alternatives();
    if let (Some(only), None, true) = (alternatives.next(), alternatives.next(), schema.node["properties"].is_null()) {
        return type_name(only);
    }
    let named = |schema: Schema<'_>| schema.node["type"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let plain = |name: Option<String>| name.filter(|name| name != "object");
    match schema.reference() {
        Some(reference) => plain(named(schema.resolved()))
            .unwrap_or_else(|| reference.rsplit(['/', '.']).next().unwrap_or("Object").to_owned()),
        None => plain(named(schema)).unwrap_or_else(|| "Object".to_owned()),
    }
}

fn indent(spaces: usize, text: &str) -> String {
    let space = " ".repeat(spaces);
    text.split('\n').map(|line| format!("{space}{line}")).collect::<Vec<_>>().join("\n")
}

/// Breaks lines at spaces so that none is wider, where it can be done.
fn wrap(width: usize, text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let longer = line.chars().count() + 1 + word.chars().count();
            match line.is_empty() {
                true => line = word.to_owned(),
                false if longer <= width => line += &format!(" {word}"),
                false => lines.push(std::mem::replace(&mut line, word.to_owned())),
            }
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A type with a required field, allowed values, a list, a map, and itself inside.
    fn explained(path: &[&str], recursive: bool) -> Option<String> {
        let document = Document::from_value(json!({"components": {"schemas": {"io.x.Tree": {
            "description": "A tree.", "required": ["size"],
            "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Tree"}],
            "properties": {
                "size": {"type": "string", "enum": ["", "s", "m", "l", "xl"], "description": "How large it is."},
                "branches": {"type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/io.x.Tree"}], "default": {}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }}}}));
        let resource = Resource { version: "v1".into(), kind: "Tree".into(), ..Resource::default() };
        follow(document.kind(&resource)?, path, recursive, &[])
    }

    #[test]
    fn fields_are_followed_and_listed() {
        assert_eq!(
            explained(&[], false).unwrap(),
            "DESCRIPTION:\n    A tree.\n    \nFIELDS:\n  branches\t<[]Tree>\n    <no description>\n\n  labels\t<map[string]string>\n    <no description>\n\n  size\t<string> -required-\n  enum: \"\", s, m, l, ....\n    How large it is.\n\n"
        );
        assert_eq!(
            explained(&["branches", "branches", "size"], false).unwrap(),
            "FIELD: size <string>\nENUM:\n    \"\"\n    s\n    m\n    l\n    xl\n\nDESCRIPTION:\n    How large it is.\n    \n"
        );
        assert_eq!(explained(&["labels", "x"], false), None);
        let all = explained(&[], true).unwrap();
        let fields: Vec<&str> = all.lines().skip(3).collect();
        assert_eq!(
            fields,
            [
                "FIELDS:",
                "  branches\t<[]Tree>",
                "    branches\t<[]Tree>",
                "    labels\t<map[string]string>",
                "    size\t<string> -required-",
                "    enum: \"\", s, m, l, ....",
                "  labels\t<map[string]string>",
                "  size\t<string> -required-",
                "  enum: \"\", s, m, l, ....",
            ]
        );
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap(5, "aa bb cc dddddd e"), "aa bb\ncc\ndddddd\ne");
    }
}
