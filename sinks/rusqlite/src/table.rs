//! The table as the database describes it.

use load_aware_batcher::SinkError;
use rusqlite::{Connection, Error, Row};

use crate::failure::text;
use crate::name::TableName;

/// One column of the table.
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) generated: bool,
    /// Its place in the primary key, from 1; 0 outside.
    key_place: i64,
    /// Null is refused, and a row that does not name the column would have null there.
    needed: bool,
}

/// The columns of a table or of a view, in their order.
pub(crate) struct Table(pub(crate) Vec<TableColumn>);

impl Table {
    /// Asks the database.
    ///
    /// # Errors
    /// There is no such table, schema, or database.
    pub(crate) fn ask(connection: &Connection, name: &TableName) -> Result<Self, SinkError> {
        let columns = read(connection, name).map_err(|error| match &name.schema {
            Some(schema) if error.to_string().contains("unknown database") => {
                SinkError::new(format!("there is no schema {schema:?}"))
            }
            _ => SinkError::new(format!(
                "cannot read the columns of {name}: {}",
                text(&error)
            )),
        })?;
        if columns.is_empty() {
            return Err(SinkError::new(format!("there is no table {name}")));
        }
        Ok(Self(columns))
    }

    /// A column by its name, which has no case.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        let mut columns = self.0.iter();
        columns.find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The columns of the primary key, in its order.
    pub(crate) fn primary_key(&self) -> Vec<&str> {
        let mut key: Vec<_> = self
            .0
            .iter()
            .filter(|column| column.key_place > 0)
            .collect();
        key.sort_by_key(|column| column.key_place);
        key.into_iter().map(|column| &*column.name).collect()
    }

    /// The columns that every row must have a value for.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &str> {
        let needed = self.0.iter().filter(|column| column.needed);
        needed.map(|column| &*column.name)
    }
}

fn read(connection: &Connection, name: &TableName) -> Result<Vec<TableColumn>, Error> {
    let query = "SELECT name, hidden, pk, \"notnull\" AND dflt_value IS NULL AND hidden = 0
            AND NOT (pk > 0 AND upper(type) = 'INTEGER')";
    let read = |row: &Row<'_>| {
        Ok(TableColumn {
            name: row.get(0)?,
            generated: matches!(row.get(1)?, 2 | 3),
            key_place: row.get(2)?,
            needed: row.get(3)?,
        })
    };
    match &name.schema {
        Some(schema) => {
            let query = format!("{query} FROM pragma_table_xinfo(?1, ?2)");
            let mut query = connection.prepare(&query)?;
            query.query_map([&name.table, schema], read)?.collect()
        }
        None => {
            let query = format!("{query} FROM pragma_table_xinfo(?1)");
            let mut query = connection.prepare(&query)?;
            query.query_map([&name.table], read)?.collect()
        }
    }
}
