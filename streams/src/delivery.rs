//! What a source hands over.

/// One entry of a log, as it was delivered to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<Id> {
    /// The entry's place in the log. It is the same in every delivery of the entry.
    pub id: Id,
    /// Field names and values, in the order of the entry.
    pub fields: Vec<(String, Vec<u8>)>,
    /// How often the log has delivered this entry, this time included: 1 for a new entry.
    pub times: u64,
    /// How often a process submitted this entry alone and ended before the outcome.
    pub deaths: u64,
}

impl<Id> Delivery<Id> {
    /// The value of the first field with this name.
    ///
    /// ```
    /// # use load_aware_batcher_streams::Delivery;
    /// let fields = vec![("n".to_owned(), b"7".to_vec())];
    /// let delivery = Delivery { id: 1, fields, times: 1, deaths: 0 };
    /// assert_eq!(delivery.field("n"), Some(&b"7"[..]));
    /// assert_eq!(delivery.field("m"), None);
    /// ```
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_slice())
    }

    /// The value of the first field with this name, parsed from its text.
    ///
    /// # Errors
    /// A sentence that names the field, if it is missing, is no UTF-8, or does not parse.
    ///
    /// ```
    /// # use load_aware_batcher_streams::Delivery;
    /// let fields = vec![("n".to_owned(), b"7".to_vec())];
    /// let delivery = Delivery { id: 1, fields, times: 1, deaths: 0 };
    /// assert_eq!(delivery.parse::<i64>("n"), Ok(7));
    /// assert_eq!(delivery.parse::<i64>("m").unwrap_err(), "the entry has no field m");
    /// ```
    pub fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<T, String> {
        let value = self
            .field(name)
            .ok_or_else(|| format!("the entry has no field {name}"))?;
        let text = std::str::from_utf8(value).map_err(|_| format!("field {name} is no UTF-8"))?;
        text.parse()
            .map_err(|error| format!("field {name} is {text:?}: {error}"))
    }
}
