//! Tables of the server (`as=Table`), printed as kubectl aligns them.

use serde_json::Value;

use api::jsonpath::print;

/// Spaces between columns.
const PADDING: usize = 3;
/// A column but the last is at least so wide, its spaces included.
const LEAST: usize = 6;

/// What of a table is shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Columns of priority 1 too.
    pub wide: bool,
    /// A first column with the namespace.
    pub with_namespace: bool,
    /// A last column with all labels.
    pub show_labels: bool,
    /// One more column for each of these labels.
    pub label_columns: Vec<String>,
    /// What comes before each name, `pod/`.
    pub prefix: Option<String>,
}

/// Headings and rows as text.
#[derive(Debug, Default)]
pub struct Rows {
    /// The headings.
    pub headings: Vec<String>,
    /// One for each object.
    pub rows: Vec<Vec<String>>,
}

/// Takes out of a server's Table what is to be shown.
pub fn rows(table: &Value, options: &Options) -> Rows {
    let definitions = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    let shown: Vec<usize> = (0..definitions.len())
        .filter(|index| options.wide || definitions[*index]["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let mut headings: Vec<String> =
        shown.iter().map(|index| definitions[*index]["name"].as_str().unwrap_or_default().to_uppercase()).collect();
    if options.with_namespace {
        headings.insert(0, "NAMESPACE".into());
    }
    headings.extend(options.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or(label).to_uppercase()));
    if options.show_labels {
        headings.push("LABELS".into());
    }
    let empty = vec![];
    let rows = table["rows"].as_array().unwrap_or(&empty).iter().map(|row| cells(row, &shown, options)).collect();
    Rows { headings, rows }
}

fn cells(row: &Value, shown: &[usize], options: &Options) -> Vec<String> {
    let metadata = &row["object"]["metadata"];
    let mut cells: Vec<String> = shown.iter().map(|index| cell(&row["cells"][*index])).collect();
    if let (Some(prefix), Some(first)) = (&options.prefix, cells.first_mut()) {
        *first = format!("{prefix}/{first}");
    }
    if options.with_namespace {
        cells.insert(0, metadata["namespace"].as_str().unwrap_or_default().to_owned());
    }
    let labels = &metadata["labels"];
    cells.extend(options.label_columns.iter().map(|label| labels[label].as_str().unwrap_or_default().to_owned()));
    if options.show_labels {
        let all = labels.as_object().map(|labels| {
            labels.iter().map(|(key, value)| format!("{key}={}", print(value))).collect::<Vec<_>>().join(",")
        });
        cells.push(all.filter(|labels| !labels.is_empty()).unwrap_or_else(|| "<none>".into()));
    }
    cells
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".into(),
        other => print(other).replace('\n', " "),
    }
}

impl Rows {
    /// Aligned text, headings first unless left out.
    pub fn render(&self, no_headers: bool) -> String {
        let mut lines: Vec<&Vec<String>> = Vec::new();
        if !no_headers {
            lines.push(&self.headings);
        }
        lines.extend(&self.rows);
        align(&lines)
    }
}

/// Pads each column but the last to its widest cell.
pub fn align(lines: &[&Vec<String>]) -> String {
    let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|column| (width(column) + PADDING).max(LEAST)).collect();
    let mut out = String::new();
    for line in lines {
        for (index, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if index + 1 < line.len() {
                out.push_str(&" ".repeat(widths[index] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_aligned_and_narrow_unless_wide() {
        let table = json!({"columnDefinitions": [{"name": "Name"}, {"name": "Age"}, {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["a", "5s", "n1"], "object": {"metadata": {"namespace": "x", "labels": {"app": "w"}}}}, {"cells": ["longer", "1m", null], "object": {"metadata": {}}}]});
        let shown = |options: Options| rows(&table, &options).render(options.wide || options.show_labels);
        assert_eq!(shown(Options::default()), "NAME     AGE\na        5s\nlonger   1m\n");
        assert_eq!(shown(Options { wide: true, ..Default::default() }), "a        5s    n1\nlonger   1m    <none>\n");
        let labelled = Options { show_labels: true, with_namespace: true, ..Default::default() };
        assert_eq!(shown(labelled), "x     a        5s    app=w\n      longer   1m    <none>\n");
    }
}
