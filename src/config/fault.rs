//! What can be wrong with a configuration file, and how it is said.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// One thing that is wrong with a configuration file, and where.
///
/// Written as one line, `file:line:column: key: what is wrong`, which editors and terminals turn into a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file's name, as it was given.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The key's whole path, such as `migration.block_max`; empty where the text is not TOML.
    pub key: String,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        self.problem.fmt(f)
    }
}

/// What is wrong at one place of a file.
///
/// Never holds the value of a key that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text is not TOML; the parser's own words. Nothing else in the file has been looked at.
    NotToml(String),
    /// There is no such key.
    UnknownKey {
        /// The key that was probably meant.
        meant: Option<String>,
        /// Every key that may stand here.
        known: Vec<String>,
    },
    /// A password, which is never written in this file.
    Password,
    /// A key that must be there is not.
    Missing {
        /// What to write.
        allowed: String,
    },
    /// A value of the wrong type, or outside its range.
    NotAllowed {
        /// The value as it is written in the file; `None` when it may be secret.
        found: Option<String>,
        /// What may be written instead.
        allowed: String,
    },
    /// Allowed by itself, but not beside another value.
    Conflict(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotToml(reason) => write!(f, "not TOML: {reason}"),
            Self::UnknownKey { meant: Some(meant), known: _ } => write!(f, "unknown key; did you mean `{meant}`?"),
            Self::UnknownKey { meant: None, known } => write!(f, "unknown key; known here: {}", known.join(", ")),
            Self::Password => f.write_str(
                "a password is never written in this file: name a file that holds it in cluster.password_file, or \
                 set the environment variable EVENKEEL_PASSWORD",
            ),
            Self::Missing { allowed } => write!(f, "missing; expected {allowed}"),
            Self::NotAllowed { found: Some(found), allowed } => write!(f, "{found} is not allowed; expected {allowed}"),
            Self::NotAllowed { found: None, allowed } => {
                write!(f, "this value (not shown) is not allowed; expected {allowed}")
            }
            Self::Conflict(reason) => f.write_str(reason),
        }
    }
}

/// A configuration file that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why. Not a source: whoever prints those too would say it twice.
        why: io::Error,
    },
    /// The file was read, and this is wrong with it.
    #[error("the configuration file {} cannot be used:{}", path.display(), lines(faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// Every fault, in the order of the file; at least one.
        faults: Vec<Fault>,
    },
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().flat_map(|fault| ["\n  ".to_owned(), fault.to_string()]).collect()
}
