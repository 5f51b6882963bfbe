//! Replies of the stream commands, read by hand: an entry keeps the order of its fields.

use redis::Value;

use super::EntryId;

pub struct Entry {
    pub id: EntryId,
    pub fields: Vec<(String, Vec<u8>)>,
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

pub fn text(value: &Value) -> Option<String> {
    bytes(value).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

pub fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        _ => &[],
    }
}

pub fn id(value: &Value) -> Option<EntryId> {
    text(value)?.parse().ok()
}

/// `[[id, [field, value, ...]], ...]`. A deleted entry has no fields and is left out.
pub fn entries(value: &Value) -> Vec<Entry> {
    let entry = |value: &Value| {
        let [name, fields] = array(value) else {
            return None;
        };
        let Value::Array(fields) = fields else {
            return None;
        };
        let fields = fields
            .chunks_exact(2)
            .filter_map(|pair| Some((text(&pair[0])?, bytes(&pair[1])?.to_vec())));
        Some(Entry {
            id: id(name)?,
            fields: fields.collect(),
        })
    };
    array(value).iter().filter_map(entry).collect()
}

/// `[[stream, entries]]` or nothing, of one stream.
pub fn read(value: &Value) -> Vec<Entry> {
    let stream = array(value).first().map(array);
    stream
        .and_then(|stream| stream.get(1))
        .map(entries)
        .unwrap_or_default()
}

/// A row of `[[id, consumer, idle, times], ...]`.
#[derive(Clone, Debug)]
pub struct Pending {
    pub id: EntryId,
    pub consumer: String,
    pub times: u64,
}

pub fn pending(value: &Value) -> Vec<Pending> {
    let row = |value: &Value| match array(value) {
        [name, consumer, _, times] => Some(Pending {
            id: id(name)?,
            consumer: text(consumer)?,
            times: number(times)?,
        }),
        _ => None,
    };
    array(value).iter().filter_map(row).collect()
}

/// The value behind this name in `[name, value, ...]`.
pub fn named<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let pairs = array(value).chunks_exact(2);
    pairs
        .into_iter()
        .find(|pair| text(&pair[0]).as_deref() == Some(name))
        .map(|pair| &pair[1])
}
