//! JSON, written into a string.

use std::fmt::Write;

/// An object that is being written; its end is written when it is dropped.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self {
            out,
            is_empty: true,
        }
    }

    /// Writes the key, and returns where the value goes.
    pub(crate) fn value(&mut self, key: &str) -> &mut String {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        string(self.out, key);
        self.out.push(':');
        self.out
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        string(self.value(key), value);
    }

    pub(crate) fn count(&mut self, key: &str, value: u64) {
        let _ = write!(self.value(key), "{value}");
    }

    /// A size of the machine's word, which is at most 64 bits.
    pub(crate) fn size(&mut self, key: &str, value: usize) {
        let _ = write!(self.value(key), "{value}");
    }

    pub(crate) fn number(&mut self, key: &str, value: impl Into<Option<f64>>) {
        number(self.value(key), value.into());
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.value(key)
            .push_str(if value { "true" } else { "false" });
    }

    pub(crate) fn object(&mut self, key: &str) -> Object<'_> {
        Object::new(self.value(key))
    }

    pub(crate) fn array<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut String, T),
    ) {
        array(self.value(key), items, write);
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push('}');
    }
}

pub(crate) fn array<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// JSON has no infinity and no NaN: they become `null`, as a missing number does.
pub(crate) fn number(out: &mut String, value: Option<f64>) {
    match value.filter(|value| value.is_finite()) {
        Some(value) => {
            let _ = write!(out, "{value}");
        }
        None => out.push_str("null"),
    }
}

/// Characters with a meaning in HTML are escaped too, so that no text ends a script that it is put
/// into. Line ends are escaped, so that a value is one line of an event.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{7f}' => escape(out, letter),
            _ if letter < ' ' => escape(out, letter),
            _ => out.push(letter),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, letter: char) {
    let _ = write!(out, "\\u{:04x}", u32::from(letter));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_quotes_its_line_or_its_script() {
        for (text, written) in [
            ("plain ü", r#""plain ü""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("one\ntwo\r", r#""one\u000atwo\u000d""#),
            ("</script>&", r#""\u003c/script\u003e\u0026""#),
            ("\u{2028}\0", r#""\u2028\u0000""#),
        ] {
            let mut out = String::new();
            string(&mut out, text);
            assert_eq!(out, written);
        }
    }

    #[test]
    fn what_is_no_number_is_null() {
        let mut out = String::new();
        array(
            &mut out,
            [Some(f64::NAN), None, Some(0.5), Some(f64::INFINITY)],
            number,
        );
        assert_eq!(out, "[null,null,0.5,null]");
    }
}
