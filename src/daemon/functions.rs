//! Libraries of functions, which do not move with slots: what a target lacks of them, and how it gets it.

use std::fmt;

use tracing::{info, warn};

use super::ends::{Connections, Fault, no_answer};
use crate::config::Functions;
use crate::migration::{End, Trouble};
use crate::redis::{CallError, Libraries};

/// What a target lacks of the libraries of its sources, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// It has none of this name.
    pub missing: Vec<String>,
    /// It has one of this name with another text.
    pub differing: Vec<String>,
}

impl Lacking {
    /// What one of the two lacks of the other.
    #[must_use]
    pub fn between(source: &Libraries, target: &Libraries) -> Self {
        let mut lacking = Self::default();
        for (name, code) in source {
            match target.get(name) {
                None => lacking.missing.push(name.clone()),
                Some(other) if other != code => lacking.differing.push(name.clone()),
                Some(_) => {}
            }
        }
        lacking
    }

    /// Whether it lacks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.differing.is_empty()
    }

    /// With what it lacks of another source.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (all, more) in [(&mut self.missing, other.missing), (&mut self.differing, other.differing)] {
            all.extend(more);
            all.sort();
            all.dedup();
        }
        self
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("has not", &self.missing), ("has another text of", &self.differing)];
        let told = parts.iter().filter(|(_, names)| !names.is_empty());
        let told: Vec<String> = told.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        write!(f, "of its sources' libraries of functions it {}", told.join(", and "))
    }
}

impl Connections {
    /// Compares the libraries of both ends, before the first slot is opened: warns of what the target lacks, or loads
    /// it there. Why the target is not to take slots, if so.
    pub(super) async fn compare_functions(&mut self, functions: Functions) -> Result<Option<Trouble>, Fault> {
        if functions == Functions::Ignore {
            return Ok(None);
        }
        let at_source = self.libraries(End::Source).await?;
        if at_source.is_empty() {
            return Ok(None);
        }
        let mut lacking = Lacking::between(&at_source, &self.libraries(End::Target).await?);
        if functions == Functions::Copy {
            for name in std::mem::take(&mut lacking.missing) {
                if let Some(trouble) = self.copy_library(name, &at_source).await? {
                    return Ok(Some(trouble));
                }
            }
        }
        if !lacking.is_empty() {
            warn!(target = %self.pair.target, why = %lacking, "functions called at the target may fail");
        }
        Ok(None)
    }

    async fn copy_library(&mut self, name: String, at_source: &Libraries) -> Result<Option<Trouble>, Fault> {
        let node = self.pair.target;
        let code = at_source[&name].clone();
        match self.control(End::Target).await?.load_library(code).await {
            Ok(()) => info!(target = %node, library = name, "library of functions loaded at the target"),
            Err(CallError::Refused { text, .. }) => {
                // Another move to this target may have loaded it meanwhile.
                let is_there = self.libraries(End::Target).await?.contains_key(&name);
                return Ok((!is_there).then_some(Trouble::Functions { node, library: name, text }));
            }
            Err(error) => return Err(no_answer(End::Target)(error)),
        }
        Ok(None)
    }

    async fn libraries(&mut self, at: End) -> Result<Libraries, Fault> {
        self.control(at).await?.libraries().await.map_err(no_answer(at))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_a_target_has_not_is_told_from_what_it_has_with_another_text() {
        let libraries = |text: &'static str| -> Libraries {
            text.split_whitespace()
                .filter_map(|library| library.split_once('='))
                .map(|(name, code)| (name.to_owned(), Bytes::from_static(code.as_bytes())))
                .collect()
        };
        let check = |source, target, expect: &str| {
            let lacking = Lacking::between(&libraries(source), &libraries(target));
            assert_eq!(if lacking.is_empty() { String::new() } else { lacking.to_string() }, expect);
        };
        check("a=1 b=1", "a=1 b=1 c=1", "");
        check("", "a=1", "");
        check("a=1 b=1", "b=2", "of its sources' libraries of functions it has not a, and has another text of b");
        let one = Lacking::between(&libraries("a=1 b=1"), &libraries(""));
        let both = one.clone().and(one).and(Lacking::between(&libraries("c=1 d=1"), &libraries("d=2")));
        assert_eq!(
            both.to_string(),
            "of its sources' libraries of functions it has not a, b, c, and has another text of d"
        );
    }
}
