//! The list of mutants: its format is described at its head.

use std::collections::BTreeSet;

/// Which build holds a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Loom,
    Shuttle,
    Lib,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Loom, Kind::Shuttle, Kind::Lib];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Loom => "loom",
            Kind::Shuttle => "shuttle",
            Kind::Lib => "lib",
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Debug, Default)]
pub struct Mutant {
    pub name: String,
    pub edits: Vec<Edit>,
    /// The tests that must fail with it.
    pub red: Vec<(Kind, String)>,
}

#[derive(Debug, Default)]
pub struct Edit {
    pub file: String,
    /// What stands before the original, white space aside.
    pub behind: String,
    pub original: String,
    pub replacement: String,
}

pub fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    let (mut file, mut behind) = (String::new(), String::new());
    // Whether the next `-` line begins an edit.
    let mut is_new = true;
    for (index, line) in text.lines().enumerate() {
        let error = |what: &str| format!("mutants.list, line {}: {what}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("mutant: ") {
            mutants.push(Mutant {
                name: name.to_owned(),
                ..Mutant::default()
            });
            (file, is_new) = (String::new(), true);
            continue;
        }
        let mutant = mutants
            .last_mut()
            .ok_or_else(|| error("no mutant begins before this line"))?;
        if let Some(path) = line.strip_prefix("in: ") {
            (file, is_new) = (path.to_owned(), true);
        } else if let Some(before) = line.strip_prefix("behind: ") {
            (behind, is_new) = (before.to_owned(), true);
        } else if let Some(test) = line.strip_prefix("red: ") {
            let (kind, test) = test
                .split_once(' ')
                .and_then(|(kind, test)| Some((Kind::named(kind)?, test)))
                .ok_or_else(|| error("expected `red: loom|shuttle|lib TEST`"))?;
            mutant.red.push((kind, test.to_owned()));
        } else if let Some(part) = line.strip_prefix('-') {
            if std::mem::take(&mut is_new) {
                mutant.edits.push(Edit {
                    file: file.clone(),
                    behind: std::mem::take(&mut behind),
                    ..Edit::default()
                });
            }
            let edit = mutant.edits.last_mut().expect("just pushed");
            append(&mut edit.original, part);
        } else if let Some(part) = line.strip_prefix('+') {
            is_new = true;
            let edit = mutant
                .edits
                .last_mut()
                .ok_or_else(|| error("a replacement without an original"))?;
            append(&mut edit.replacement, part);
        } else {
            return Err(error("not a line of the format"));
        }
    }
    let mut names = BTreeSet::new();
    for mutant in &mutants {
        let complete = !mutant.red.is_empty() && !mutant.edits.is_empty();
        if !complete || mutant.edits.iter().any(|edit| edit.file.is_empty()) {
            return Err(format!("{}: needs `in:`, `-` and `red:`", mutant.name));
        }
        if !names.insert(&mutant.name) {
            return Err(format!("{}: listed twice", mutant.name));
        }
    }
    Ok(mutants)
}

/// One blank behind the sign belongs to the format.
fn append(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line.strip_prefix(' ').unwrap_or(line));
}
