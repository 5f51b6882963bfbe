//! The statements of a sink, checked against the table.

use load_aware_batcher::SinkError;
use rusqlite::Connection;

use crate::failure::text;
use crate::name::{Quoted, TableName, list};
use crate::on_conflict::OnConflict;
use crate::table::Table;

/// What the user asked for.
pub(crate) struct Wishes<'a> {
    pub(crate) table: Option<&'a str>,
    pub(crate) columns: Vec<&'a str>,
    pub(crate) key: Option<&'a [String]>,
    pub(crate) on_conflict: &'a OnConflict,
    pub(crate) batch_table: Option<&'a str>,
}

/// What the writers do.
pub(crate) struct Plan {
    pub(crate) columns: Vec<String>,
    pub(crate) insert: String,
    /// The places among the columns of those that rows are sorted by.
    pub(crate) sort_by: Vec<usize>,
    pub(crate) batches: Option<Batches>,
}

/// The statements for the table of batch ids.
pub(crate) struct Batches {
    /// Stores an id, unless it is there.
    pub(crate) mark: String,
    /// Removes ids of an age in seconds.
    pub(crate) prune: String,
}

impl Plan {
    /// Asks the database whether the wishes can be had.
    ///
    /// # Errors
    /// One sentence that names what is wrong.
    pub(crate) fn check(connection: &Connection, wishes: &Wishes<'_>) -> Result<Self, SinkError> {
        let name = wishes
            .table
            .ok_or_else(|| SinkError::new("no table is named: call `table`"))?;
        let name = table_name(name)?;
        let table = Table::ask(connection, &name)?;
        check_columns(&table, &name, &wishes.columns)?;
        let key = key(&table, &name, wishes)?;
        let insert = format!(
            "INSERT INTO {name} ({}) VALUES ({}){}",
            list(wishes.columns.iter().copied()),
            placeholders(wishes.columns.len()),
            conflict_clause(wishes, &table, &name, &key)?
        );
        connection.prepare(&insert).map_err(|error| {
            if error.to_string().contains("does not match any") {
                let key = list(key.iter().copied());
                SinkError::new(format!("table {name} has no unique index on ({key})"))
            } else {
                SinkError::new(format!("cannot insert into {name}: {}", text(&error)))
            }
        })?;
        let batches = wishes
            .batch_table
            .map(|batch_table| batches(connection, &name, batch_table));
        Ok(Self {
            columns: wishes.columns.iter().map(|&name| name.to_owned()).collect(),
            insert,
            sort_by: key
                .iter()
                .filter_map(|key| place(&wishes.columns, key))
                .collect(),
            batches: batches.transpose()?,
        })
    }
}

fn table_name(text: &str) -> Result<TableName, SinkError> {
    TableName::parse(text).ok_or_else(|| SinkError::new(format!("{text:?} is not a table's name")))
}

/// Where a column is among those that the user named.
fn place(columns: &[&str], name: &str) -> Option<usize> {
    let mut columns = columns.iter();
    columns.position(|column| column.eq_ignore_ascii_case(name))
}

fn check_columns(table: &Table, name: &TableName, columns: &[&str]) -> Result<(), SinkError> {
    if columns.is_empty() {
        return Err(SinkError::new(format!(
            "no column of table {name} is named: call `column`"
        )));
    }
    for (at, column) in columns.iter().enumerate() {
        check_column(table, name, column)?;
        if place(&columns[..at], column).is_some() {
            return Err(SinkError::new(format!("column {column:?} is named twice")));
        }
    }
    match table
        .needed()
        .find(|needed| place(columns, needed).is_none())
    {
        Some(needed) => Err(SinkError::new(format!(
            "column {needed:?} of table {name} takes no null, has no default and is not named"
        ))),
        None => Ok(()),
    }
}

fn check_column(table: &Table, name: &TableName, column: &str) -> Result<(), SinkError> {
    match table.column(column) {
        None => Err(SinkError::new(format!(
            "table {name} has no column {column:?}"
        ))),
        Some(found) if found.generated => Err(SinkError::new(format!(
            "column {column:?} of table {name} is generated: it cannot be written"
        ))),
        Some(_) => Ok(()),
    }
}

/// The key that the user named, or the primary key if its columns are all written.
fn key<'a>(
    table: &'a Table,
    name: &TableName,
    wishes: &Wishes<'a>,
) -> Result<Vec<&'a str>, SinkError> {
    let Some(named) = wishes.key else {
        let key = table.primary_key();
        let written = key
            .iter()
            .all(|column| place(&wishes.columns, column).is_some());
        if *wishes.on_conflict != OnConflict::Fail && (key.is_empty() || !written) {
            return Err(SinkError::new(format!(
                "rows of table {name} have no key to find conflicts by: call `key`"
            )));
        }
        return Ok(if written { key } else { Vec::new() });
    };
    for column in named {
        check_column(table, name, column)?;
        if place(&wishes.columns, column).is_none() {
            return Err(SinkError::new(format!(
                "column {column:?} of the key is not written: name it with `column`"
            )));
        }
    }
    if named.is_empty() {
        return Err(SinkError::new("`key` names no column"));
    }
    Ok(named.iter().map(|column| &**column).collect())
}

fn conflict_clause(
    wishes: &Wishes<'_>,
    table: &Table,
    name: &TableName,
    key: &[&str],
) -> Result<String, SinkError> {
    let updated: Vec<&str> = match wishes.on_conflict {
        OnConflict::Fail => return Ok(String::new()),
        OnConflict::Ignore => Vec::new(),
        OnConflict::Update(columns) => columns.iter().map(|column| &**column).collect(),
        OnConflict::Replace => {
            let outside = |column: &&str| place(key, column).is_none();
            wishes.columns.iter().copied().filter(outside).collect()
        }
    };
    let conflict = format!(" ON CONFLICT ({}) DO", list(key.iter().copied()));
    if updated.is_empty() {
        return Ok(format!("{conflict} NOTHING"));
    }
    let mut set = Vec::new();
    for column in updated {
        check_column(table, name, column)?;
        if place(&wishes.columns, column).is_none() {
            return Err(SinkError::new(format!(
                "column {column:?} is to be updated but not written: name it with `column`"
            )));
        }
        let column = Quoted(column);
        set.push(format!("{column} = excluded.{column}"));
    }
    Ok(format!("{conflict} UPDATE SET {}", set.join(", ")))
}

fn placeholders(columns: usize) -> String {
    vec!["?"; columns].join(", ")
}

/// Makes the table of batch ids if it is missing.
fn batches(connection: &Connection, table: &TableName, name: &str) -> Result<Batches, SinkError> {
    let mut name = table_name(name)?;
    if name.schema.is_none() {
        name.schema.clone_from(&table.schema);
    }
    let schema = |name: &TableName| name.schema.as_deref().unwrap_or("main").to_lowercase();
    if schema(&name) != schema(table) {
        // A commit over two files in WAL mode is atomic in each, not in both.
        return Err(SinkError::new(format!(
            "the ids of batches are in {name}, which is another database than that of {table}"
        )));
    }
    // An index is named with its schema, and its table without.
    let mut index = name.clone();
    index.table.push_str("_at");
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} (id TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS {index} ON {} (at)",
        Quoted(&name.table)
    );
    let now = "CAST(strftime('%s', 'now') AS INTEGER)";
    let batches = Batches {
        mark: format!("INSERT INTO {name} (id, at) VALUES (?1, {now}) ON CONFLICT (id) DO NOTHING"),
        prune: format!("DELETE FROM {name} WHERE at < {now} - ?1"),
    };
    let usable = || {
        connection.execute_batch(&create)?;
        connection.prepare(&batches.mark)?;
        connection.prepare(&batches.prune).map(drop)
    };
    usable().map_err(|error| {
        SinkError::new(format!(
            "table {name} cannot hold the ids of batches: {}",
            text(&error)
        ))
    })?;
    Ok(batches)
}
