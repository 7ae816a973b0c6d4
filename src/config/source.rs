//! The file's text and its TOML document, with the faults found so far.
//!
//! Everything that reads the configuration names a place by its span, the range of bytes in the text; line, column,
//! key path and the value found there are looked up here. So no reader passes key names around, and secrets are kept
//! out of the faults in one place.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::fault::{Fault, Problem};

/// A place in the text, as a range of bytes.
pub(super) type Span = Range<usize>;

/// The text and what was found wrong with it.
pub(super) struct Source<'i> {
    file: &'i str,
    text: &'i str,
    document: Spanned<DeTable<'i>>,
    faults: Vec<Fault>,
}

impl<'i> Source<'i> {
    /// The text as a TOML document; the fault is the first place where it is not TOML.
    pub(super) fn parse(file: &'i str, text: &'i str) -> Result<Self, Fault> {
        match DeTable::parse(text) {
            Ok(document) => Ok(Self { file, text, document, faults: Vec::new() }),
            Err(error) => {
                let (line, column) = place(text, error.span().map_or(0, |span| span.start));
                // Only the message: the error's whole text quotes the line, which may hold a secret.
                let problem = Problem::NotToml(error.message().to_owned());
                Err(Fault { file: file.to_owned(), line, column, key: String::new(), problem })
            }
        }
    }

    /// The document as a serde structure, without the entries that do not fit it; each of those is a fault.
    ///
    /// serde stops at the first thing that does not fit. So it is asked again without that entry, until the rest fits:
    /// at most once for each entry of the document.
    pub(super) fn mirror<T: DeserializeOwned + Default>(&mut self) -> T {
        let mut rest = self.document.clone();
        loop {
            let error = match T::deserialize(Deserializer::from(rest.clone())) {
                Ok(mirror) => return mirror,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            self.misfit(span.clone(), error.message());
            if !prune_table(rest.get_mut(), &span) {
                return T::default();
            }
        }
    }

    /// Records what serde says of the entry at this place.
    fn misfit(&mut self, span: Span, message: &str) {
        if message.starts_with("unknown field") {
            // The message is "unknown field `x`, expected one of `a`, `b`": between the backticks stand the names.
            let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
            let unknown = names.next().unwrap_or_default();
            let known: Vec<String> = names.collect();
            let meant = nearest(&unknown, &known);
            let problem = match meant {
                None if looks_secret(&unknown) => Problem::Password,
                Some(_) | None => Problem::UnknownKey { meant, known },
            };
            return self.fault(span, problem);
        }
        let allowed = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
        self.not_allowed(span, in_plain_words(allowed));
    }

    /// Records a problem at this place.
    pub(super) fn fault(&mut self, span: Span, problem: Problem) {
        let (line, column) = place(self.text, span.start);
        let key = key_in_table(self.document.get_ref(), &span).unwrap_or_default();
        self.faults.push(Fault { file: self.file.to_owned(), line, column, key, problem });
    }

    /// Records that the value at this place is not allowed.
    pub(super) fn not_allowed(&mut self, span: Span, allowed: impl Into<String>) {
        let key = key_in_table(self.document.get_ref(), &span).unwrap_or_default();
        let found = self.text.get(span.clone()).unwrap_or_default();
        // An address with an `@` is a URL with a user and a password in it.
        let hidden = looks_secret(&key) || found.contains('@') || found.contains("PRIVATE KEY");
        let found = (!hidden).then(|| shortened(found));
        self.fault(span, Problem::NotAllowed { found, allowed: allowed.into() });
    }

    /// Records that the table at this place lacks a key, unless the key is there with a fault of its own.
    ///
    /// Without a table the place is the beginning of the file.
    pub(super) fn missing(&mut self, table: Option<Span>, key: &str, allowed: &str) {
        let known = |fault: &Fault| within(key, &fault.key) || within(&fault.key, key);
        if !self.faults.iter().any(known) {
            let (line, column) = place(self.text, table.map_or(0, |span| span.start));
            let problem = Problem::Missing { allowed: allowed.to_owned() };
            self.faults.push(Fault { file: self.file.to_owned(), line, column, key: key.to_owned(), problem });
        }
    }

    /// Records that the table at this place lacks a key of this name.
    pub(super) fn missing_in(&mut self, table: Span, name: &str, allowed: &str) {
        let path = key_in_table(self.document.get_ref(), &table).unwrap_or_default();
        self.missing(Some(table), &format!("{path}.{name}"), allowed);
    }

    /// The line of a place, counted from 1.
    pub(super) fn line(&self, span: &Span) -> usize {
        place(self.text, span.start).0
    }

    /// Every fault so far, in the order of the file.
    pub(super) fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        self.faults
    }
}

/// Line and column of the key with this path, both counted from 1; `None` where the text is not TOML or lacks the key.
pub(super) fn place_of(text: &str, path: &str) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut names = path.split('.').peekable();
    loop {
        let name = names.next()?;
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        if names.peek().is_none() {
            return Some(place(text, key.span().start));
        }
        table = value.get_ref().as_table()?;
    }
}

/// Line and column (in characters) of a byte, both counted from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The path of the key or value that lies at the span.
fn key_in_table(table: &DeTable<'_>, span: &Span) -> Option<String> {
    // The innermost first: a table written as a dotted key shares its span with what it holds.
    table.iter().find_map(|(key, value)| {
        let name = written(key.get_ref());
        match key_in_value(value.get_ref(), span) {
            Some(inner) if inner.starts_with('[') => Some(format!("{name}{inner}")),
            Some(inner) => Some(format!("{name}.{inner}")),
            None => (key.span() == *span || value.span() == *span).then_some(name),
        }
    })
}

fn key_in_value(value: &DeValue<'_>, span: &Span) -> Option<String> {
    if let Some(table) = value.as_table() {
        return key_in_table(table, span);
    }
    value.as_array()?.iter().enumerate().find_map(|(index, item)| match key_in_value(item.get_ref(), span) {
        Some(inner) if inner.starts_with('[') => Some(format!("[{index}]{inner}")),
        Some(inner) => Some(format!("[{index}].{inner}")),
        None => (item.span() == *span).then(|| format!("[{index}]")),
    })
}

/// Takes out the entry that lies at the span, the innermost where several do; says whether there was one.
fn prune_table(table: &mut DeTable<'_>, span: &Span) -> bool {
    if table.iter_mut().any(|(_, value)| prune_value(value.get_mut(), span)) {
        return true;
    }
    let before = table.len();
    let entries = std::mem::replace(table, DeTable::new()).into_iter();
    *table = entries.filter(|(key, value)| key.span() != *span && value.span() != *span).collect();
    table.len() < before
}

fn prune_value(value: &mut DeValue<'_>, span: &Span) -> bool {
    match value {
        DeValue::Table(table) => prune_table(table, span),
        DeValue::Array(array) => {
            if array.iter_mut().any(|item| prune_value(item.get_mut(), span)) {
                return true;
            }
            let before = array.len();
            let items = std::mem::replace(array, DeArray::new()).into_iter();
            items.filter(|item| item.span() != *span).for_each(|item| array.push(item));
            array.len() < before
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            false
        }
    }
}

/// Whether a key path is the other one or lies below it.
fn within(key: &str, parent: &str) -> bool {
    key.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A key as it is written in TOML: in quotes, unless it is a bare key. A URL with a password in it is not shown.
fn written(key: &str) -> String {
    if key.contains('@') {
        return "(not shown)".to_owned();
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// A value of the file, short enough for one line. Of a list or table only that it is one: it may hold a password.
fn shortened(found: &str) -> String {
    const LONGEST: usize = 60;
    if found.starts_with('[') {
        return "a list".to_owned();
    }
    if found.starts_with('{') {
        return "a table".to_owned();
    }
    let line = found.lines().next().unwrap_or_default();
    if line.len() == found.len() && line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    format!("{}…", line.chars().take(LONGEST).collect::<String>())
}

/// Whether a key's name says that its value may be secret, or names a file that somebody may take for the secret.
fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["pass", "secret", "token", "credential", "auth", "key_file"].iter().any(|word| key.contains(word))
}

/// serde's word for a type, as an operator would say it.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        // Numbers are the only values of TOML that may be too great to be read as one.
        "any valid TOML value"
        | "u64 value was too large"
        | "integer number overflowed"
        | "floating-point number overflowed" => "a number of at most 64 bits",
        other => other,
    }
}

/// The known name that differs least from this one, if it differs little: a third of its letters, and three at most.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let near = known.iter().map(|candidate| (edits(name, candidate), candidate)).min()?;
    (near.0 <= limit).then(|| near.1.clone())
}

/// How many letters must be added, left out or replaced to turn one word into the other (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
