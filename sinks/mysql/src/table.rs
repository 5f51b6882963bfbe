//! The table as the server describes it.

use load_aware_batcher::SinkError;
use mysql::Conn;
use mysql::prelude::Queryable;

use crate::failure::{code, text};
use crate::name::TableName;

/// One column of the table.
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) generated: bool,
}

/// A unique index: its columns, in its order.
pub(crate) struct UniqueIndex {
    name: String,
    pub(crate) columns: Vec<String>,
    /// Over whole columns: not over their beginnings, nor over expressions.
    whole: bool,
}

/// A table or a view.
pub(crate) struct Table {
    pub(crate) columns: Vec<TableColumn>,
    unique: Vec<UniqueIndex>,
}

impl Table {
    /// Asks the server.
    ///
    /// # Errors
    /// There is no such table or database, or it has no transactions.
    pub(crate) fn ask(conn: &mut Conn, name: &TableName) -> Result<Self, SinkError> {
        let database = database_of(conn, name)?;
        let place = (&*database, &*name.table);
        let columns = columns(conn, place).map_err(|error| unreadable(name, &error))?;
        if columns.is_empty() {
            return Err(missing(conn, name));
        }
        check_engine(conn, name)?;
        let unique = unique(conn, place).map_err(|error| unreadable(name, &error))?;
        Ok(Self { columns, unique })
    }

    /// A column by its name, which has no case.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        let mut columns = self.columns.iter();
        columns.find(|column| same(&column.name, name))
    }

    /// The columns of the primary key, in its order.
    pub(crate) fn primary_key(&self) -> Option<&UniqueIndex> {
        let mut unique = self.unique.iter();
        unique.find(|index| index.name == "PRIMARY")
    }

    /// Whether there is a unique index on exactly these columns, and whether there is another.
    pub(crate) fn unique_on(&self, key: &[&str]) -> (bool, bool) {
        let is_it = |index: &&UniqueIndex| {
            let all =
                |one: &[&str], other: &dyn Fn(&str) -> bool| one.iter().all(|name| other(name));
            index.whole
                && index.columns.len() == key.len()
                && all(key, &|name| {
                    index.columns.iter().any(|column| same(column, name))
                })
        };
        let there = self.unique.iter().filter(is_it).count();
        (there > 0, self.unique.len() > there)
    }
}

/// Whether two names are one column's.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// The table's database: the connection's where its name has none.
fn database_of(conn: &mut Conn, name: &TableName) -> Result<String, SinkError> {
    if let Some(database) = &name.database {
        return Ok(database.clone());
    }
    let database: Option<Option<String>> = conn
        .query_first("SELECT DATABASE()")
        .map_err(|error| unreadable(name, &error))?;
    database.flatten().ok_or_else(|| {
        SinkError::new(format!(
            "no database is selected for table {name}: name one in the URL, or before the table"
        ))
    })
}

/// Whether the table has transactions.
///
/// # Errors
/// It has none.
pub(crate) fn check_engine(conn: &mut Conn, name: &TableName) -> Result<(), SinkError> {
    let database = database_of(conn, name)?;
    match engine(conn, (&database, &name.table)).map_err(|error| unreadable(name, &error))? {
        None => Ok(()),
        Some(engine) => Err(SinkError::new(format!(
            "table {name} has the engine {engine}, which has no transactions"
        ))),
    }
}

fn unreadable(name: &TableName, error: &mysql::Error) -> SinkError {
    SinkError::new(format!(
        "cannot read the columns of {name}: {}",
        text(error)
    ))
}

/// What is not there and what this user may not see look the same: a statement knows more.
fn missing(conn: &mut Conn, name: &TableName) -> SinkError {
    let sentence = match conn.prep(format!("INSERT INTO {name} VALUES ()")).map(drop) {
        Err(error) if code(&error) == Some(1146) => format!("there is no table {name}"),
        Err(error) if matches!(code(&error), Some(1142 | 1044)) => {
            format!(
                "the user may not insert into table {name}: {}",
                text(&error)
            )
        }
        Err(error) => format!("there is no table {name}: {}", text(&error)),
        Ok(()) => format!("the user may not see the columns of table {name}"),
    };
    SinkError::new(sentence)
}

fn columns(conn: &mut Conn, place: (&str, &str)) -> Result<Vec<TableColumn>, mysql::Error> {
    let query = "SELECT COLUMN_NAME, EXTRA FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";
    conn.exec_map(query, place, |(name, extra): (String, String)| {
        let extra = extra.to_uppercase();
        // DEFAULT_GENERATED is a default that is an expression.
        let kinds = ["VIRTUAL", "STORED", "PERSISTENT"];
        let generated = kinds.iter().any(|kind| extra.contains(kind));
        TableColumn { name, generated }
    })
}

/// The table's engine, if it has no transactions.
fn engine(conn: &mut Conn, place: (&str, &str)) -> Result<Option<String>, mysql::Error> {
    let query = "SELECT t.ENGINE FROM information_schema.TABLES t JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
        WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ? AND e.TRANSACTIONS <> 'YES'";
    conn.exec_first(query, place)
}

fn unique(conn: &mut Conn, place: (&str, &str)) -> Result<Vec<UniqueIndex>, mysql::Error> {
    let query = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NULL FROM information_schema.STATISTICS
        WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX";
    let parts: Vec<(String, Option<String>, bool)> = conn.exec(query, place)?;
    let mut unique: Vec<UniqueIndex> = Vec::new();
    for (name, column, whole) in parts {
        let is_next = unique.last().is_some_and(|last| last.name == name);
        if !is_next {
            unique.push(UniqueIndex {
                name,
                columns: Vec::new(),
                whole: true,
            });
        }
        let index = unique.last_mut().expect("one was pushed");
        index.whole &= whole && column.is_some();
        index.columns.extend(column);
    }
    Ok(unique)
}
