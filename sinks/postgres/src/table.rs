//! The table as the server describes it.

use postgres::types::Oid;
use postgres::{Client, Error};

use crate::failure::Problem;
use crate::name::TableName;

/// One column of the table, with what this user may do with it.
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub(crate) always_identity: bool,
    pub(crate) insert: bool,
    pub(crate) select: bool,
    pub(crate) update: bool,
    /// As SQL names it, where it is not the database's own.
    pub(crate) collation: Option<String>,
}

/// A unique index over whole columns: its columns, in its order.
pub(crate) struct UniqueIndex {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    primary: bool,
    /// `ON CONFLICT` takes it: it is neither partial nor deferrable.
    finds_conflicts: bool,
}

/// What kind of relation takes the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Partitioned,
    View,
    Foreign,
}

/// A table or a view.
pub(crate) struct Table {
    pub(crate) kind: Kind,
    /// Rules for `INSERT` or `UPDATE`.
    pub(crate) rules: bool,
    /// Row-level security holds for this user.
    pub(crate) row_security: bool,
    pub(crate) columns: Vec<TableColumn>,
    unique: Vec<UniqueIndex>,
}

const TABLE: &str = "SELECT c.oid, c.relkind::text, row_security_active(c.oid),
    EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3')),
    pg_relation_is_updatable(c.oid, true) & 8 <> 0,
    has_any_column_privilege(c.oid, 'INSERT')
    FROM pg_class c WHERE c.oid = to_regclass($1::text)";

const COLUMNS: &str = "SELECT attname::text, attgenerated <> '', attidentity = 'a',
    has_column_privilege(attrelid, attnum, 'INSERT'),
    has_column_privilege(attrelid, attnum, 'SELECT'),
    has_column_privilege(attrelid, attnum, 'UPDATE'),
    (SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
        WHERE c.oid = attcollation AND c.collname <> 'default')
    FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

const UNIQUE: &str = "SELECT c.oid, c.relname::text, i.indisprimary,
    i.indimmediate AND i.indpred IS NULL AND i.indisvalid,
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.place <= i.indnkeyatts ORDER BY k.place)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = $1 AND i.indisunique AND i.indexprs IS NULL ORDER BY c.oid";

impl Table {
    /// Asks the server.
    ///
    /// # Errors
    /// There is no such table, or nothing can be inserted into it.
    pub(crate) fn ask(client: &mut Client, name: &TableName) -> Result<Self, Problem> {
        let unreadable =
            |error: Error| Problem::by(format!("cannot read the columns of {name}"), error);
        let found = client
            .query_opt(TABLE, &[&name.to_string()])
            .map_err(unreadable)?;
        let Some(found) = found else {
            return Err(Problem::new(format!("there is no table {name}")));
        };
        let oid: Oid = found.get(0);
        let (rules, updatable, insert): (bool, bool, bool) =
            (found.get(3), found.get(4), found.get(5));
        let kind = match found.get::<_, &str>(1) {
            "r" => Kind::Table,
            "p" => Kind::Partitioned,
            "f" if updatable => Kind::Foreign,
            // The server itself says so at the first row, as if it might take the next one.
            "f" => {
                return Err(Problem::new(format!(
                    "foreign table {name} takes no rows: its foreign-data wrapper does not insert"
                )));
            }
            "v" if updatable || rules => Kind::View,
            "v" => {
                return Err(Problem::new(format!(
                    "view {name} takes no rows: it has no INSTEAD OF trigger for INSERT"
                )));
            }
            _ => return Err(Problem::new(format!("{name} is not a table"))),
        };
        if !insert {
            return Err(Problem::new(format!(
                "the user may not insert into table {name}"
            )));
        }
        let columns = client.query(COLUMNS, &[&oid]).map_err(unreadable)?;
        let columns = columns.iter().map(|row| TableColumn {
            name: row.get(0),
            generated: row.get(1),
            always_identity: row.get(2),
            insert: row.get(3),
            select: row.get(4),
            update: row.get(5),
            collation: row.get(6),
        });
        let unique = client.query(UNIQUE, &[&oid]).map_err(unreadable)?;
        let unique = unique.iter().map(|row| UniqueIndex {
            oid: row.get(0),
            name: row.get(1),
            primary: row.get(2),
            finds_conflicts: row.get(3),
            columns: row.get(4),
        });
        Ok(Self {
            kind,
            rules,
            row_security: found.get(2),
            columns: columns.collect(),
            unique: unique.collect(),
        })
    }

    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub(crate) fn primary_key(&self) -> Option<&UniqueIndex> {
        self.unique.iter().find(|index| index.primary)
    }

    /// The unique indexes on exactly these columns that `ON CONFLICT` takes, and whether there is
    /// one that it does not take.
    pub(crate) fn unique_on(&self, key: &[&str]) -> (Vec<&UniqueIndex>, bool) {
        let is_it = |index: &&UniqueIndex| {
            index.columns.len() == key.len()
                && key
                    .iter()
                    .all(|name| index.columns.iter().any(|c| c == name))
        };
        let (found, others): (Vec<_>, Vec<_>) = self
            .unique
            .iter()
            .filter(is_it)
            .partition(|index| index.finds_conflicts);
        (found, !others.is_empty())
    }

    /// Whether `COPY` into it does what `INSERT` would do.
    pub(crate) fn takes_copy(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::Partitioned) && !self.rules && !self.row_security
    }
}
