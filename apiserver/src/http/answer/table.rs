//! Objects as rows of cells: the Table format of kubectl get. Entry point: [`Tables`].

use api::ApiError;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::resources::Strategy;

/// What of its object a row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads `includeObject`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                api::field::go_quote(other)
            ))),
        }
    }
}

/// Makes tables of one kind.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// The kind.
    pub strategy: &'a dyn Strategy,
    /// `meta.k8s.io/v1` or `v1beta1`.
    pub api_version: &'static str,
    /// What rows carry.
    pub include: Include,
    /// For ages.
    pub now: Timestamp,
}

impl Tables<'_> {
    /// A table of these objects under this list metadata. Without headings the columns are null, as in later events of a watch.
    pub fn table(&self, metadata: Value, objects: &[&[u8]], headings: bool) -> Result<Value, ApiError> {
        let mut rows = objects.iter().map(|bytes| self.row(bytes)).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|(rank, _)| *rank);
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        let columns = self.strategy.columns().iter().map(|column| {
            json!({"name": column.name, "type": column.kind, "format": column.format, "description": column.description,
                "priority": column.priority})
        });
        let mut table = Map::new();
        table.insert("kind".to_owned(), Value::from("Table"));
        table.insert("apiVersion".to_owned(), Value::from(self.api_version));
        table.insert("metadata".to_owned(), metadata);
        table.insert("columnDefinitions".to_owned(), if headings { columns.collect() } else { Value::Null });
        let rows = if rows.is_empty() && self.collects() { Value::Null } else { Value::Array(rows) };
        table.insert("rows".to_owned(), rows);
        Ok(Value::Object(table))
    }

    /// Whether upstream collects the rows of this kind, so that no rows are null, rather than printing a list of them. Its
    /// tables without a printer show when objects were created.
    fn collects(&self) -> bool {
        let by_time = self.strategy.columns().last().is_some_and(|column| column.name == "Created At");
        by_time && !self.strategy.info().custom
    }

    /// The row, and its place among the others.
    fn row(&self, bytes: &[u8]) -> Result<(i64, Value), ApiError> {
        let object = self.strategy.decode_stored(bytes)?;
        let cells = self.strategy.cells(object.as_ref(), self.now);
        let shown = match self.include {
            Include::None => Value::Null,
            Include::Metadata => super::metadata_only(bytes, self.api_version),
            Include::Object => super::served_value(self.strategy, bytes)?,
        };
        let mut row = Map::from_iter([("cells".to_owned(), Value::from(cells))]);
        if let Some((reason, message)) = self.strategy.completion(object.as_ref()) {
            let condition = json!({"type": "Completed", "status": "True", "reason": reason, "message": message});
            row.insert("conditions".to_owned(), json!([condition]));
        }
        row.insert("object".to_owned(), shown);
        Ok((self.strategy.table_rank(object.as_ref()), Value::Object(row)))
    }
}
