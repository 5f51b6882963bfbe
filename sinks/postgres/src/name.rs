//! Names of tables and columns: quoted, so that any character is allowed.

use std::fmt;

/// A column's or a table's name, displayed as a quoted identifier.
#[derive(Clone, Debug)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A table with or without its schema; displayed as quoted identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl TableName {
    /// `readings`, `shop.readings`; a part in double quotes is taken as it is, dots included.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, behind) = match rest.strip_prefix('"') {
                Some(quoted) => unquoted(quoted)?,
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    (rest[..end].to_owned(), &rest[end..])
                }
            };
            if part.is_empty() {
                return None;
            }
            parts.push(part);
            match behind.strip_prefix('.') {
                Some(more) => rest = more,
                None if behind.is_empty() => break,
                None => return None,
            }
        }
        let table = parts.pop()?;
        let schema = parts.pop();
        parts.is_empty().then_some(Self { schema, table })
    }
}

/// The text up to the closing quote, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", Quoted(schema))?;
        }
        Quoted(&self.table).fmt(f)
    }
}

/// Names as SQL lists them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(names, |name| Quoted(name).to_string())
}

/// What is made of each, with commas between.
pub(crate) fn joined<I: IntoIterator>(items: I, text: impl FnMut(I::Item) -> String) -> String {
    items.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_dots_outside_quotes() {
        let table: [(&str, Option<&str>); 8] = [
            ("readings", Some("\"readings\"")),
            ("shop.readings", Some("\"shop\".\"readings\"")),
            ("shop.\"a.b\"", Some("\"shop\".\"a.b\"")),
            ("\"say \"\"hi\"\"\"", Some("\"say \"\"hi\"\"\"")),
            ("a.b.c", None),
            ("", None),
            ("shop.", None),
            ("\"open", None),
        ];
        for (text, expected) in table {
            let parsed = TableName::parse(text).map(|name| name.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
