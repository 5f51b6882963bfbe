//! The statements of a sink, checked against the table.

use postgres::Client;
use postgres::types::{Kind as TypeKind, Oid, Type};

use crate::failure::{Problem, code};
use crate::name::{TableName, list};
use crate::on_conflict::OnConflict;
use crate::statements::{Batches, Conflicts, Sent, Staging, Target};
use crate::table::{Kind, Table, UniqueIndex};

/// A column that the user named.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// The name of the values' type.
    pub(crate) rust_type: String,
    /// Whether the values can be written to a column of this type.
    pub(crate) accepts: &'a dyn Fn(&Type) -> bool,
}

/// What the user asked for.
pub(crate) struct Wishes<'a> {
    pub(crate) table: Option<&'a str>,
    pub(crate) columns: Vec<Wanted<'a>>,
    pub(crate) key: Option<&'a [String]>,
    pub(crate) on_conflict: &'a OnConflict,
    pub(crate) batch_table: Option<&'a str>,
}

/// Which of the rows of a batch with one key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// All of them.
    None,
    First,
    Last,
}

/// What the writers do.
pub(crate) struct Plan {
    pub(crate) columns: Vec<PlanColumn>,
    /// An `INSERT` whose parameters have the columns' types.
    one_row: String,
    /// The places among the columns of those that rows are sorted by.
    pub(crate) key: Vec<usize>,
    pub(crate) merge: Merge,
    /// `COPY` straight into the table, where that does what `INSERT` does.
    pub(crate) copy: Option<String>,
    pub(crate) staging: Option<Staging>,
    pub(crate) insert: String,
    pub(crate) insert_distinct: String,
    /// Asks which keys are there, for [`OnConflict::Ignore`].
    pub(crate) present: Option<String>,
    /// The indexes that find the key's conflicts.
    pub(crate) key_indexes: Vec<(Oid, String)>,
    /// Each partition has an index with a name of its own.
    pub(crate) partitioned: bool,
    pub(crate) batches: Option<Batches>,
}

pub(crate) struct PlanColumn {
    pub(crate) name: String,
    /// Never a domain.
    pub(crate) ty: Type,
}

impl Plan {
    /// Asks the server whether the wishes can be had.
    ///
    /// # Errors
    /// One sentence that names what is wrong.
    pub(crate) fn check(client: &mut Client, wishes: &Wishes<'_>) -> Result<Self, Problem> {
        let name = wishes
            .table
            .ok_or_else(|| Problem::new("no table is named: call `table`"))?;
        let name = table_name(name)?;
        let table = Table::ask(client, &name)?;
        check_columns(&table, &name, wishes)?;
        let key = key(&table, &name, wishes)?;
        let updated = updated(&table, &name, wishes, &key)?;
        let key_indexes = match wishes.on_conflict {
            OnConflict::Fail => Vec::new(),
            _ => check_key(&table, &name, &key)?,
        };
        let (conflicts, merge) = match wishes.on_conflict {
            OnConflict::Fail => (Conflicts::Fail, Merge::None),
            OnConflict::Ignore => (Conflicts::Ignore, Merge::First),
            OnConflict::Update(_) | OnConflict::Replace => {
                (Conflicts::Update(&updated), Merge::Last)
            }
        };
        let places: Vec<usize> = key.iter().filter_map(|key| place(wishes, key)).collect();
        let (columns, sent) = types(client, &table, &name, wishes)?;
        let target = Target {
            table: &name,
            columns: &sent,
            key: &places,
            conflicts,
        };
        let present = match wishes.on_conflict {
            OnConflict::Ignore => target.present(),
            _ => None,
        };
        let batches = wishes.batch_table.map(|name| batches(client, name));
        Ok(Self {
            copy: table.takes_copy().then(|| target.copy()),
            staging: target.staging(),
            insert: target.insert(),
            insert_distinct: target.insert_distinct(),
            present,
            one_row: target.one_row(),
            columns,
            merge,
            key_indexes: key_indexes
                .iter()
                .map(|index| (index.oid, index.name.clone()))
                .collect(),
            partitioned: table.kind == Kind::Partitioned,
            key: places,
            batches: batches.transpose()?,
        })
    }
}

impl Plan {
    /// Whether the columns still have the types that values are encoded for. True where the server
    /// does not say.
    pub(crate) fn still_fits(&self, client: &mut Client) -> bool {
        let types = self.columns.iter().map(|column| &column.ty);
        client
            .prepare(&self.one_row)
            .map_or(true, |row| row.params().iter().map(base).eq(types.cloned()))
    }
}

fn table_name(text: &str) -> Result<TableName, Problem> {
    TableName::parse(text).ok_or_else(|| Problem::new(format!("{text:?} is not a table's name")))
}

/// Where a column is among those that the user named.
fn place(wishes: &Wishes<'_>, name: &str) -> Option<usize> {
    wishes.columns.iter().position(|column| column.name == name)
}

fn check_columns(table: &Table, name: &TableName, wishes: &Wishes<'_>) -> Result<(), Problem> {
    if wishes.columns.is_empty() {
        return Err(Problem::new(format!(
            "no column of table {name} is named: call `column`"
        )));
    }
    for (at, column) in wishes.columns.iter().enumerate() {
        let column = column.name;
        let Some(found) = table.column(column) else {
            return Err(no_column(name, column));
        };
        let problem = if found.generated {
            "is generated: it cannot be written"
        } else if found.always_identity {
            "is GENERATED ALWAYS AS IDENTITY: it cannot be written"
        } else if !found.insert {
            return Err(Problem::new(format!(
                "the user may not insert into column {column:?} of table {name}"
            )));
        } else if place(wishes, column) != Some(at) {
            return Err(Problem::new(format!("column {column:?} is named twice")));
        } else {
            continue;
        };
        return Err(Problem::new(format!(
            "column {column:?} of table {name} {problem}"
        )));
    }
    Ok(())
}

fn no_column(name: &TableName, column: &str) -> Problem {
    Problem::new(format!("table {name} has no column {column:?}"))
}

/// The key that the user named, or the primary key if its columns are all written.
fn key<'a>(
    table: &'a Table,
    name: &TableName,
    wishes: &Wishes<'a>,
) -> Result<Vec<&'a str>, Problem> {
    let Some(named) = wishes.key else {
        let primary = table.primary_key().map_or(&[][..], |index| &index.columns);
        let written = primary.iter().all(|column| place(wishes, column).is_some());
        if *wishes.on_conflict != OnConflict::Fail && (primary.is_empty() || !written) {
            return Err(Problem::new(format!(
                "rows of table {name} have no key to find conflicts by: call `key`"
            )));
        }
        let key = if written { primary } else { &[] };
        return Ok(key.iter().map(|column| &**column).collect());
    };
    for column in named {
        if table.column(column).is_none() {
            return Err(no_column(name, column));
        }
        if place(wishes, column).is_none() {
            return Err(Problem::new(format!(
                "column {column:?} of the key is not written: name it with `column`"
            )));
        }
    }
    if named.is_empty() {
        return Err(Problem::new("`key` names no column"));
    }
    Ok(named.iter().map(|column| &**column).collect())
}

/// What `ON CONFLICT` needs: an index, no rules, and the right to read the key.
fn check_key<'a>(
    table: &'a Table,
    name: &TableName,
    key: &[&str],
) -> Result<Vec<&'a UniqueIndex>, Problem> {
    let (found, others) = table.unique_on(key);
    if found.is_empty() {
        let key = list(key.iter().copied());
        let others = if others {
            ": partial and deferrable ones do not count"
        } else {
            ""
        };
        return Err(Problem::new(format!(
            "table {name} has no unique index on ({key}){others}"
        )));
    }
    if table.rules {
        return Err(Problem::new(format!(
            "table {name} has rules for INSERT or UPDATE: the server finds no conflicts there"
        )));
    }
    let unreadable = |column: &&&str| table.column(column).is_some_and(|found| !found.select);
    if let Some(column) = key.iter().find(unreadable) {
        return Err(Problem::new(format!(
            "the user may not select column {column:?} of table {name}, which conflicts are found by"
        )));
    }
    Ok(found)
}

/// The columns that take new values where the key is there already.
fn updated<'a>(
    table: &Table,
    name: &TableName,
    wishes: &Wishes<'a>,
    key: &[&str],
) -> Result<Vec<&'a str>, Problem> {
    let updated: Vec<&str> = match wishes.on_conflict {
        OnConflict::Fail | OnConflict::Ignore => return Ok(Vec::new()),
        OnConflict::Update(columns) => columns.iter().map(|column| &**column).collect(),
        OnConflict::Replace => {
            let columns = wishes.columns.iter().map(|column| column.name);
            columns.filter(|column| !key.contains(column)).collect()
        }
    };
    for column in &updated {
        let Some(found) = table.column(column) else {
            return Err(no_column(name, column));
        };
        if place(wishes, column).is_none() {
            return Err(Problem::new(format!(
                "column {column:?} is to be updated but not written: name it with `column`"
            )));
        }
        if !found.update {
            return Err(Problem::new(format!(
                "the user may not update column {column:?} of table {name}"
            )));
        }
    }
    Ok(updated)
}

/// Asks for the columns' types, and whether the values fit them.
fn types(
    client: &mut Client,
    table: &Table,
    name: &TableName,
    wishes: &Wishes<'_>,
) -> Result<(Vec<PlanColumn>, Vec<Sent>), Problem> {
    let mut sent: Vec<Sent> = wishes
        .columns
        .iter()
        .map(|column| Sent {
            name: column.name.to_owned(),
            sql_type: String::new(),
            collation: table
                .column(column.name)
                .and_then(|found| found.collation.clone()),
            unnests: false,
        })
        .collect();
    let one_row = Target {
        table: name,
        columns: &sent,
        key: &[],
        conflicts: Conflicts::Fail,
    };
    let cannot = |error: postgres::Error| Problem::by(format!("cannot insert into {name}"), error);
    // The driver asks for what it does not know of the types, such as an enumeration's values.
    let one_row = client.prepare(&one_row.one_row()).map_err(cannot)?;
    let types: Vec<Type> = one_row.params().iter().map(base).collect();
    let oids: Vec<Oid> = types.iter().map(Type::oid).collect();
    let names = "SELECT format_type(o.oid, -1), t.typarray <> 0
        FROM unnest($1::oid[]) WITH ORDINALITY AS o (oid, place) JOIN pg_type t ON t.oid = o.oid ORDER BY o.place";
    let names = client.query(names, &[&oids]).map_err(cannot)?;
    for (at, column) in wishes.columns.iter().enumerate() {
        let (sql_type, has_array): (String, bool) = (names[at].get(0), names[at].get(1));
        if !(column.accepts)(&types[at]) {
            return Err(Problem::new(format!(
                "column {:?} of table {name} has the type {sql_type}: it does not take values of type {}",
                column.name, column.rust_type
            )));
        }
        let kind = types[at].kind();
        sent[at].unnests =
            has_array && !matches!(kind, TypeKind::Array(_) | TypeKind::Composite(_));
        sent[at].sql_type = sql_type;
    }
    let columns = wishes.columns.iter().zip(types);
    let columns = columns.map(|(column, ty)| PlanColumn {
        name: column.name.to_owned(),
        ty,
    });
    Ok((columns.collect(), sent))
}

/// The type under a domain: both are sent alike.
fn base(ty: &Type) -> Type {
    match ty.kind() {
        TypeKind::Domain(under) => base(under),
        _ => ty.clone(),
    }
}

/// Makes the table of batch ids if it is missing.
fn batches(client: &mut Client, name: &str) -> Result<Batches, Problem> {
    let name = table_name(name)?;
    let batches = Batches::new(&name);
    let mut usable = || {
        if let Err(error) = client.prepare(&batches.mark) {
            // Made only where it is missing: that takes another right.
            if code(&error) != Some("42P01") {
                return Err(error);
            }
            match client.batch_execute(&batches.create) {
                // Another program made it meanwhile.
                Err(error) if matches!(code(&error), Some("42P07" | "23505")) => {}
                made => made?,
            }
            client.prepare(&batches.mark)?;
        }
        client.prepare(&batches.prune).map(drop)
    };
    usable().map_err(|error| {
        Problem::by(
            format!("table {name} cannot hold the ids of batches"),
            error,
        )
    })?;
    Ok(batches)
}
