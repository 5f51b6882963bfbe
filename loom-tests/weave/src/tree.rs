//! The copy of the tree, and the mutants woven into it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;
use std::{fs, io};

use crate::list::Mutant;

/// Never copied: what is built, and the history.
const LEFT_OUT: [&str; 3] = ["target", ".git", "weave"];

/// The one function that the woven text calls.
const SWITCH: &str = r#"
pub(crate) fn mutant(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("MUTANT").ok()).as_deref() == Some(name)
}
"#;

/// Copies what is in the folder `at` of the tree, the woven files in place of the plain ones. A
/// file that is the same already is left alone, so that it is not built again. A file of the copy
/// that the tree lacks is removed.
pub fn copy(tree: &Path, copy_to: &Path, at: &str, woven: &Woven) -> io::Result<()> {
    let to = copy_to.join(at);
    fs::create_dir_all(&to)?;
    let mut names = BTreeSet::<OsString>::new();
    for entry in fs::read_dir(tree.join(at))? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let inside = match at {
            "" => name.to_string_lossy().into_owned(),
            at => format!("{at}/{}", name.to_string_lossy()),
        };
        if entry.file_type()?.is_dir() {
            copy(tree, copy_to, &inside, woven)?;
        } else {
            let text = match woven.get(&inside) {
                Some(text) => text.clone().into_bytes(),
                None => fs::read(entry.path())?,
            };
            let to = copy_to.join(&inside);
            if !fs::read(&to).is_ok_and(|there| there == text) {
                fs::write(&to, text)?;
            }
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// The woven files' texts, by their paths in the tree.
pub type Woven = BTreeMap<String, String>;

/// One edit at its place.
struct Placed<'a> {
    range: Range<usize>,
    mutant: &'a str,
    replacement: &'a str,
}

/// Weaves all these mutants into the tree's files, each as a branch beside the original text.
/// `modelled`: for a build under a model checker. There nothing may depend on the plain library,
/// which has no place for such mutants.
pub fn weave(tree: &Path, mutants: &[&Mutant], modelled: bool) -> Result<Woven, String> {
    let mut files = BTreeMap::<&str, Vec<Placed<'_>>>::new();
    for mutant in mutants {
        for edit in &mutant.edits {
            let text = read(tree, &edit.file)?;
            let places: Vec<_> = text
                .match_indices(&edit.original)
                .map(|(start, _)| start)
                .filter(|start| text[..*start].trim_end().ends_with(&edit.behind))
                .collect();
            let [start] = places[..] else {
                return Err(format!(
                    "{}: its original text is {} times in {}, not once:\n{}",
                    mutant.name,
                    places.len(),
                    edit.file,
                    edit.original
                ));
            };
            files.entry(&edit.file).or_default().push(Placed {
                range: start..start + edit.original.len(),
                mutant: &mutant.name,
                replacement: &edit.replacement,
            });
        }
    }
    let mut result = Woven::new();
    for (file, mut edits) in files {
        // Stable: edits of one place keep the list's order.
        edits.sort_by_key(|edit| (edit.range.start, usize::MAX - edit.range.end));
        let text = read(tree, file)?;
        let text = woven(&text, 0..text.len(), &edits, file)?;
        result.insert(file.to_owned(), text);
    }
    let sync = read(tree, "src/sync.rs")? + SWITCH;
    // What a mutant leaves unused is no news.
    let library = format!("#![allow(warnings)]\n{}", read(tree, "src/lib.rs")?);
    // Another version, so that cargo keeps its builds apart from those of the tree.
    let manifest = read(tree, "Cargo.toml")?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .ok_or("Cargo.toml: no version")?;
    let depends_on_itself = |line: &str| {
        line.starts_with("load-aware-batcher = ") || line.starts_with("load-aware-batcher-testkit")
    };
    let woven: String = manifest
        .replacen(version, &format!("{version}+woven"), 1)
        .lines()
        .filter(|line| !(modelled && depends_on_itself(line)))
        .flat_map(|line| [line, "\n"])
        .collect();
    result.insert("Cargo.toml".to_owned(), woven);
    result.insert("src/sync.rs".to_owned(), sync);
    result.insert("src/lib.rs".to_owned(), library);
    Ok(result)
}

/// The text in this range with its edits, which are sorted, the outer before the inner.
fn woven(
    text: &str,
    range: Range<usize>,
    mut edits: &[Placed<'_>],
    file: &str,
) -> Result<String, String> {
    let mut result = String::new();
    let mut at = range.start;
    while let Some(first) = edits.first() {
        let place = &first.range;
        let same = edits.partition_point(|edit| edit.range == *place);
        let (same, rest) = edits.split_at(same);
        let inner = rest.partition_point(|edit| edit.range.start < place.end);
        let (inner, rest) = rest.split_at(inner);
        if let Some(across) = inner.iter().find(|edit| edit.range.end > place.end) {
            return Err(format!(
                "{file}: {} and {} overlap, and neither holds the other",
                first.mutant, across.mutant
            ));
        }
        result.push_str(&text[at..place.start]);
        let original = woven(text, place.clone(), inner, file)?;
        let mut branches = String::new();
        for edit in same {
            branches.push_str(&format!(
                "if crate::sync::mutant({:?}) {{\n{}\n}} else ",
                edit.mutant, edit.replacement
            ));
        }
        branches.push_str(&format!("{{\n{original}\n}}"));
        if is_statement(text, place) {
            result.push_str(&branches);
        } else {
            result.push_str(&format!("({branches})"));
        }
        at = place.end;
        edits = rest;
    }
    result.push_str(&text[at..range.end]);
    Ok(result)
}

/// Whether the place holds whole statements; otherwise it is an expression.
fn is_statement(text: &str, place: &Range<usize>) -> bool {
    let before = text[..place.start].rsplit('\n').next().unwrap_or_default();
    before.trim().is_empty() && text[place.clone()].ends_with([';', '}'])
}

fn read(tree: &Path, file: &str) -> Result<String, String> {
    fs::read_to_string(tree.join(file)).map_err(|error| format!("{file}: {error}"))
}
