//! `kubectl describe` of any kind without a page of its own: metadata, then each field by its title.

use serde_json::Value;

use super::page::Page;
use api::jsonpath::print;

/// Adds the page.
pub fn describe(page: &mut Page, object: &Value) {
    let metadata = &object["metadata"];
    page.field(0, "Name", print(&metadata["name"]));
    page.field(0, "Namespace", print(&metadata["namespace"]));
    page.map("Labels", &metadata["labels"], "=");
    page.map("Annotations", &metadata["annotations"], ": ");
    page.field(0, "API Version", print(&object["apiVersion"]));
    page.field(0, "Kind", print(&object["kind"]));
    page.heading(0, "Metadata");
    for (field, name) in [
        ("creationTimestamp", "Creation Timestamp"),
        ("generation", "Generation"),
        ("resourceVersion", "Resource Version"),
        ("uid", "UID"),
    ] {
        if !metadata[field].is_null() {
            page.field(2, name, print(&metadata[field]));
        }
    }
    for (field, value) in object.as_object().into_iter().flatten() {
        if !["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
            add(page, 0, &title(field), value);
        }
    }
}

fn add(page: &mut Page, indent: usize, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            page.heading(indent, name);
            fields.iter().for_each(|(field, value)| add(page, indent + 2, &title(field), value));
        }
        Value::Array(items) => {
            page.heading(indent, name);
            for item in items {
                match item {
                    Value::Object(fields) => {
                        fields.iter().for_each(|(field, value)| add(page, indent + 2, &title(field), value))
                    }
                    other => page.raw(format!("{}{}", " ".repeat(indent + 2), print(other))),
                }
            }
        }
        other => page.field(indent, name, print(other)),
    }
}

/// `podSelector` -> `Pod Selector`.
fn title(field: &str) -> String {
    let mut title = String::new();
    for (index, c) in field.chars().enumerate() {
        if index == 0 {
            title.extend(c.to_uppercase());
        } else {
            if c.is_uppercase() && !title.ends_with(|last: char| last.is_uppercase()) {
                title.push(' ');
            }
            title.push(c);
        }
    }
    title
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_get_titles() {
        assert_eq!(super::title("podSelector"), "Pod Selector");
        assert_eq!(super::title("data"), "Data");
    }
}
