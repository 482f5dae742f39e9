//! A page of `describe`: `Field:  value` lines whose values stand in one column for each level.

use serde_json::Value;

use api::jsonpath::print;

enum Line {
    Field { indent: usize, name: String, value: String },
    Raw(String),
}

/// Lines in order.
#[derive(Default)]
pub struct Page(Vec<Line>);

impl Page {
    /// `Name:  value`.
    pub fn field(&mut self, indent: usize, name: &str, value: impl Into<String>) {
        self.0.push(Line::Field { indent, name: name.to_owned(), value: value.into() });
    }

    /// `Name:` alone.
    pub fn heading(&mut self, indent: usize, name: &str) {
        self.raw(format!("{}{name}:", " ".repeat(indent)));
    }

    /// A line as it is.
    pub fn raw(&mut self, line: impl Into<String>) {
        self.0.push(Line::Raw(line.into()));
    }

    /// A field with one line for each `key=value` of a map.
    pub fn map(&mut self, name: &str, map: &Value, separator: &str) {
        let entries: Vec<String> = map
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration")
            .map(|(key, value)| format!("{key}{separator}{}", print(value)))
            .collect();
        match entries.split_first() {
            None => self.field(0, name, "<none>"),
            Some((first, rest)) => {
                self.field(0, name, first.clone());
                rest.iter().for_each(|entry| {
                    self.0.push(Line::Field { indent: 0, name: String::new(), value: entry.clone() })
                });
            }
        }
    }

    /// Rows in aligned columns.
    pub fn table(&mut self, indent: usize, rows: &[Vec<String>], padding: usize) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in rows {
            let mut line = " ".repeat(indent);
            for (index, cell) in row.iter().enumerate() {
                line += cell;
                if index + 1 < row.len() {
                    line += &" ".repeat(widths[index] + padding - cell.chars().count());
                }
            }
            self.raw(line.trim_end());
        }
    }

    /// The text. Values of neighbouring fields stand in one column.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut start = 0;
        while start < self.0.len() {
            let level = match &self.0[start] {
                Line::Raw(text) => {
                    out += text;
                    out.push('\n');
                    start += 1;
                    continue;
                }
                Line::Field { indent, .. } => *indent,
            };
            let run = self.0[start..]
                .iter()
                .take_while(|line| matches!(line, Line::Field { indent, .. } if *indent == level))
                .count();
            self.render_run(&self.0[start..start + run], &mut out);
            start += run;
        }
        out
    }

    fn render_run(&self, lines: &[Line], out: &mut String) {
        let names = lines.iter().map(|line| match line {
            Line::Field { name, .. } => name.chars().count() + 1,
            Line::Raw(_) => 0,
        });
        let width = names.max().unwrap_or(0) + 2;
        for line in lines {
            if let Line::Field { indent, name, value } = line {
                let label = if name.is_empty() { String::new() } else { format!("{name}:") };
                let text = format!("{}{label:<width$}{value}", " ".repeat(*indent));
                out.push_str(text.trim_end());
                out.push('\n');
            }
        }
    }
}

/// A time as kubectl writes it, in UTC.
pub fn time(value: &Value) -> String {
    let parsed = value.as_str().and_then(|text| text.parse::<k8s_openapi::jiff::Timestamp>().ok());
    parsed.map_or_else(|| "<unset>".to_owned(), |time| time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

/// `a=b,c=d` or `<none>`.
pub fn selector(map: &Value) -> String {
    let map = map.get("matchLabels").unwrap_or(map);
    let pairs: Vec<String> =
        map.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", print(value))).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_level_are_aligned() {
        let mut page = Page::default();
        page.field(0, "Name", "x");
        page.map("Labels", &serde_json::json!({"a": "1", "b": "2"}), "=");
        page.heading(0, "Containers");
        page.field(2, "Image", "y");
        assert_eq!(page.render(), "Name:    x\nLabels:  a=1\n         b=2\nContainers:\n  Image:  y\n");
    }
}
