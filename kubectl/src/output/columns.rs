//! `-o custom-columns=NAME:.metadata.name,…`.

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output::table::align;
use api::jsonpath::{Path, print};

/// Headings with their paths.
#[derive(Debug)]
pub struct CustomColumns {
    columns: Vec<(String, Path)>,
    headed: bool,
}

impl CustomColumns {
    /// Parses the flag's argument.
    pub fn parse(text: &str) -> Result<Self> {
        let column = |part: &str| {
            let (heading, path) = part.split_once(':').ok_or_else(|| {
                Failure::usage(format!("unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"))
            })?;
            let path = path.trim_start_matches('{').trim_end_matches('}');
            let path = Path::parse(path).map_err(|why| Failure::usage(format!("custom-columns {part}: {why}")))?;
            Ok((heading.to_owned(), path))
        };
        if text.is_empty() {
            return Err(Failure::usage("custom-columns format specified but no custom columns given"));
        }
        Ok(Self { columns: text.split(',').map(column).collect::<Result<_>>()?, headed: true })
    }

    /// The same, only the rows.
    pub fn without_headings(self) -> Self {
        Self { headed: false, ..self }
    }

    /// The aligned text for these objects.
    pub fn render(&self, items: &[Value]) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| heading.clone()).collect();
        let row = |item: &Value| -> Vec<String> {
            let cell = |path: &Path| {
                let found: Vec<String> = path.find(item, item).into_iter().map(print).collect();
                if found.is_empty() { "<none>".to_owned() } else { found.join(",") }
            };
            self.columns.iter().map(|(_, path)| cell(path)).collect()
        };
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).filter(|_| self.headed).chain(&rows).collect();
        align(&lines)
    }
}
