//! What `-o` says: one file a format.

pub mod columns;
pub mod table;
pub mod yaml;

use std::io::Write;

use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use api::jsonpath::Template;

/// A parsed `-o`.
#[derive(Debug)]
pub enum Format {
    /// The server's table; wide with all columns.
    Table { wide: bool },
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
    /// `pod/x`.
    Name,
    /// A JSONPath template.
    JsonPath(Template),
    /// What a JSONPath finds, as a JSON list.
    JsonPathAsJson(Template),
    /// Columns of one's own.
    CustomColumns(columns::CustomColumns),
}

impl Format {
    /// Parses the flag's value.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self::Table { wide: false }) };
        let (name, argument) = text.split_once('=').map_or((text, None), |(name, argument)| (name, Some(argument)));
        let needed = || {
            argument
                .ok_or_else(|| Failure::usage(format!("template format specified but no template given for {name}")))
        };
        Ok(match name {
            "wide" => Self::Table { wide: true },
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "name" => Self::Name,
            "jsonpath" => Self::JsonPath(template(needed()?)?),
            "jsonpath-as-json" => Self::JsonPathAsJson(template(needed()?)?),
            "custom-columns" => Self::CustomColumns(columns::CustomColumns::parse(needed()?)?),
            "" => Self::Table { wide: false },
            other => {
                return Err(Failure::usage(format!(
                    "unable to match a printer suitable for the output format \"{other}\", allowed formats are: custom-columns,json,jsonpath,jsonpath-as-json,name,wide,yaml"
                )));
            }
        })
    }
}

/// Parses a JSONPath flag; braces may be left out.
pub fn template(text: &str) -> Result<Template> {
    let text = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(text);
    let braced = if text.contains('{') { text.to_owned() } else { format!("{{{text}}}") };
    Template::parse(&braced).map_err(|why| Failure::usage(format!("error parsing jsonpath {text}, {why}")))
}

/// Prints an object or a list, in a format that needs no table.
pub fn print(format: &Format, object: &Value, show_managed_fields: bool) -> Result<()> {
    let mut object = object.clone();
    if !show_managed_fields {
        hide_managed_fields(&mut object);
    }
    match format {
        Format::Json => line(&indented(&object)?),
        Format::Yaml => text(&yaml::render(&object)),
        Format::JsonPath(template) => text(&template.render(&object)),
        Format::JsonPathAsJson(template) => line(&indented(&template.values(&object).into())?),
        Format::CustomColumns(columns) => text(&columns.render(&items(&object))),
        Format::Name | Format::Table { .. } => {
            unreachable!("names and tables are printed by the commands, which know the resource")
        }
    }
}

/// JSON with kubectl's indentation of four.
pub fn indented(object: &Value) -> Result<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    serde::Serialize::serialize(object, &mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    Ok(String::from_utf8(out).expect("JSON is UTF-8"))
}

fn items(object: &Value) -> Vec<Value> {
    match object["items"].as_array() {
        Some(items) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
        _ => vec![object.clone()],
    }
}

fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(hide_managed_fields);
    }
}

/// Several objects as one `List`.
pub fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

/// Writes to standard output; a reader that went away ends the program quietly.
pub fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Writes a line to standard output.
pub fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}
