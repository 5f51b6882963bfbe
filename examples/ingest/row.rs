//! The rows: one a line. A line is `id,value,text`, where the text is the rest of the line, or a
//! line of a log as it is.

use std::fmt;

/// One reading. Its id is its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: i64,
    pub value: f64,
    pub text: String,
}

/// Why a line is no row.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    Columns(usize),
    Id(String),
    Value(String),
    ZeroByte,
    NotUtf8,
}

impl Row {
    /// # Errors
    /// The line has another form.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let mut columns = line.splitn(3, ',');
        let (Some(id), Some(value), Some(text)) = (columns.next(), columns.next(), columns.next())
        else {
            return Err(Malformed::Columns(line.split(',').count()));
        };
        let id = id
            .trim()
            .parse()
            .map_err(|_| Malformed::Id(id.to_owned()))?;
        let number: f64 = value
            .trim()
            .parse()
            .map_err(|_| Malformed::Value(value.to_owned()))?;
        if !number.is_finite() {
            return Err(Malformed::Value(value.to_owned()));
        }
        Ok(Self {
            id,
            value: number,
            text: plain(text)?,
        })
    }

    /// A line of a log: its number is the id, so that the same log sent again adds nothing; its
    /// length in bytes is the value.
    ///
    /// # Errors
    /// It cannot be stored as text.
    pub fn of_log(number: u64, line: &str) -> Result<Self, Malformed> {
        Ok(Self {
            id: number as i64,
            value: line.len() as f64,
            text: plain(line)?,
        })
    }
}

fn plain(text: &str) -> Result<String, Malformed> {
    if text.contains('\0') {
        // No database here takes it as text, and PostgreSQL would say so for the whole batch.
        return Err(Malformed::ZeroByte);
    }
    Ok(text.to_owned())
}

/// As it was read.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.id, self.value, self.text)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns(count) => write!(f, "{count} columns where id,value,text are expected"),
            Self::Id(found) => write!(f, "the id {found:?} is no whole number"),
            Self::Value(found) => write!(f, "the value {found:?} is no finite number"),
            Self::ZeroByte => f.write_str("the text has a zero byte"),
            Self::NotUtf8 => f.write_str("the line is no UTF-8"),
        }
    }
}

impl std::error::Error for Malformed {}
