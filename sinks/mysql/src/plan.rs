//! The statements of a sink, checked against the table.

use load_aware_batcher::SinkError;
use mysql::Conn;
use mysql::prelude::Queryable;

use crate::failure::{code, text};
use crate::name::{Quoted, TableName, list};
use crate::on_conflict::OnConflict;
use crate::statement::Statements;
use crate::table::{Table, check_engine, same};

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
    pub(crate) insert: Statements,
    /// Whether the statement refuses a row that another unique index than the key finds.
    pub(crate) guarded: bool,
    /// The places among the columns of those that rows are sorted by.
    pub(crate) sort_by: Vec<usize>,
    /// The most bytes of one statement's values.
    pub(crate) bytes_max: usize,
    pub(crate) batches: Option<Batches>,
}

/// The statements for the table of batch ids.
pub(crate) struct Batches {
    /// Stores an id; a duplicate is an error.
    pub(crate) mark: String,
    /// Removes ids of an age in seconds.
    pub(crate) prune: String,
}

/// The most bytes of a statement, whatever the server would take. Beyond 16 MiB the driver sends
/// each text in a packet of its own.
const BYTES_MAX: usize = 8 << 20;

impl Plan {
    /// Asks the server whether the wishes can be had.
    ///
    /// # Errors
    /// One sentence that names what is wrong.
    pub(crate) fn check(conn: &mut Conn, wishes: &Wishes<'_>) -> Result<Self, SinkError> {
        let name = wishes
            .table
            .ok_or_else(|| SinkError::new("no table is named: call `table`"))?;
        let name = table_name(name)?;
        let table = Table::ask(conn, &name)?;
        check_columns(&table, &name, &wishes.columns)?;
        let key = key(&table, &name, wishes)?;
        let (_, others) = table.unique_on(&key);
        let guarded = others && *wishes.on_conflict != OnConflict::Fail;
        let head = format!(
            "INSERT INTO {name} ({}) VALUES",
            list(wishes.columns.iter().copied())
        );
        let tail = conflict_clause(wishes, &table, &name, &key, guarded)?;
        let insert = Statements::new(head, wishes.columns.len(), tail);
        conn.prep(insert.text(1))
            .map_err(|error| match code(&error) {
                Some(1142 | 1143) => SinkError::new(format!(
                    "the user may not insert into table {name}: {}",
                    text(&error)
                )),
                _ => SinkError::new(format!("cannot insert into {name}: {}", text(&error))),
            })?;
        let packet: Option<usize> = conn
            .query_first("SELECT @@SESSION.max_allowed_packet")
            .map_err(|error| SinkError::new(text(&error)))?;
        let packet = packet.unwrap_or(BYTES_MAX).min(BYTES_MAX);
        let batches = wishes
            .batch_table
            .map(|batch_table| batches(conn, &name, batch_table));
        Ok(Self {
            insert,
            guarded,
            sort_by: key
                .iter()
                .filter_map(|key| place(&wishes.columns, key))
                .collect(),
            // The packet's own head is small.
            bytes_max: packet.saturating_sub(1_024),
            batches: batches.transpose()?,
        })
    }
}

fn table_name(text: &str) -> Result<TableName, SinkError> {
    TableName::parse(text).ok_or_else(|| SinkError::new(format!("{text:?} is not a table's name")))
}

/// Where a column is among those that the user named.
fn place(columns: &[&str], name: &str) -> Option<usize> {
    columns.iter().position(|column| same(column, name))
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
    Ok(())
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
    let finds_conflicts = *wishes.on_conflict != OnConflict::Fail;
    let Some(named) = wishes.key else {
        let primary = table.primary_key().map_or(&[][..], |index| &index.columns);
        let written = primary
            .iter()
            .all(|column| place(&wishes.columns, column).is_some());
        if finds_conflicts && (primary.is_empty() || !written) {
            return Err(SinkError::new(format!(
                "rows of table {name} have no key to find conflicts by: call `key`"
            )));
        }
        let key = if written { primary } else { &[] };
        return Ok(key.iter().map(|column| &**column).collect());
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
    let key: Vec<&str> = named.iter().map(|column| &**column).collect();
    if finds_conflicts && !table.unique_on(&key).0 {
        let key = list(key.iter().copied());
        return Err(SinkError::new(format!(
            "table {name} has no unique index on ({key})"
        )));
    }
    Ok(key)
}

fn conflict_clause(
    wishes: &Wishes<'_>,
    table: &Table,
    name: &TableName,
    key: &[&str],
    guarded: bool,
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
    let first = Quoted(key[0]);
    let mut set = Vec::new();
    if guarded {
        // The clause is for every unique index, and cannot be told which. Where another one than
        // the key finds the row, a subquery of two rows makes the statement fail.
        let equal: Vec<String> = key
            .iter()
            .map(|column| format!("{0} <=> VALUES({0})", Quoted(column)))
            .collect();
        set.push(format!(
            "{first} = IF({}, {first}, (SELECT 1 UNION ALL SELECT 2))",
            equal.join(" AND ")
        ));
    } else if updated.is_empty() {
        set.push(format!("{first} = {first}"));
    }
    for column in updated {
        check_column(table, name, column)?;
        if place(&wishes.columns, column).is_none() {
            return Err(SinkError::new(format!(
                "column {column:?} is to be updated but not written: name it with `column`"
            )));
        }
        set.push(format!("{0} = VALUES({0})", Quoted(column)));
    }
    Ok(format!(" ON DUPLICATE KEY UPDATE {}", set.join(", ")))
}

/// Makes the table of batch ids if it is missing.
fn batches(conn: &mut Conn, table: &TableName, name: &str) -> Result<Batches, SinkError> {
    let mut name = table_name(name)?;
    if name.database.is_none() {
        name.database.clone_from(&table.database);
    }
    let batches = Batches {
        mark: format!("INSERT INTO {name} (id) VALUES (?)"),
        prune: format!("DELETE FROM {name} WHERE at < NOW() - INTERVAL ? SECOND LIMIT 10000"),
    };
    let create = format!(
        "CREATE TABLE {name} (id CHAR(32) CHARACTER SET ascii NOT NULL PRIMARY KEY,
         at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, KEY at (at)) ENGINE = InnoDB"
    );
    let usable = || {
        if let Err(error) = conn.prep(&batches.mark) {
            // Made only where it is missing: that takes another right.
            if code(&error) != Some(1146) {
                return Err(error);
            }
            conn.query_drop(create)?;
            conn.prep(&batches.mark)?;
        }
        conn.prep(&batches.prune).map(drop)
    };
    usable().map_err(|error| {
        SinkError::new(format!(
            "table {name} cannot hold the ids of batches: {}",
            text(&error)
        ))
    })?;
    check_engine(conn, &name)?;
    Ok(batches)
}
