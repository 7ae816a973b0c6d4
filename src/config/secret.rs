//! Passwords and the token of our own API: read when they are needed, never kept.
//!
//! So a rotated password takes effect at the next connect, and none lies in a configuration that is logged or
//! compared. Reading is blocking, of a file of at most [`MAX_PASSWORD_BYTES`].

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use thiserror::Error;

use super::{ClusterConfig, HttpConfig};

/// The environment variable that holds the cluster's password. It goes before `cluster.password_file`.
pub const PASSWORD_VARIABLE: &str = "EVENKEEL_PASSWORD";

/// The environment variable that holds the token of our own API. It goes before `http.token_file`.
pub const TOKEN_VARIABLE: &str = "EVENKEEL_HTTP_TOKEN";

/// The longest file of a password or token. Far beyond either: a longer file is another file, named by mistake.
pub const MAX_PASSWORD_BYTES: u64 = 4096;

/// Where the passwords come from. Holds none of them.
#[derive(Clone)]
pub struct Secrets {
    password_file: Option<PathBuf>,
    migrate_password_file: Option<PathBuf>,
    variable: fn(&str) -> Option<OsString>,
}

impl Secrets {
    /// The passwords that a configuration names.
    #[must_use]
    pub fn of(cluster: &ClusterConfig) -> Self {
        Self::with_environment(cluster, |name| std::env::var_os(name))
    }

    /// No password, whatever the environment says: for servers that ask for none.
    #[must_use]
    pub fn none() -> Self {
        Self { password_file: None, migrate_password_file: None, variable: |_| None }
    }

    /// The password in this file and nowhere else; none where there is no file.
    #[must_use]
    pub fn of_file(password_file: Option<PathBuf>) -> Self {
        Self { password_file, ..Self::none() }
    }

    fn with_environment(cluster: &ClusterConfig, variable: fn(&str) -> Option<OsString>) -> Self {
        Self {
            password_file: cluster.password_file.clone(),
            migrate_password_file: cluster.migrate.as_ref().map(|migrate| migrate.password_file.clone()),
            variable,
        }
    }

    /// Our own password: from `EVENKEEL_PASSWORD` unless that is unset or empty, else from the file; `None` without
    /// either.
    pub fn password(&self) -> Result<Option<SecretString>, SecretError> {
        secret((self.variable, PASSWORD_VARIABLE), self.password_file.as_deref(), PASSWORD)
    }

    /// Where our own password comes from, for people: the variable's name or the file's; `None` where there is none.
    #[must_use]
    pub fn password_source(&self) -> Option<String> {
        match (self.variable)(PASSWORD_VARIABLE).filter(|value| !value.is_empty()) {
            Some(_) => Some(PASSWORD_VARIABLE.to_owned()),
            None => self.password_file.as_ref().map(|path| path.display().to_string()),
        }
    }

    /// The password with which a source signs in at the target: that of the user named for it, else our own.
    pub fn migrate_password(&self) -> Result<Option<SecretString>, SecretError> {
        match &self.migrate_password_file {
            Some(path) => read(path, PASSWORD).map(Some),
            None => self.password(),
        }
    }
}

/// Names the sources, and no password.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("password_file", &self.password_file)
            .field("migrate_password_file", &self.migrate_password_file)
            .finish_non_exhaustive()
    }
}

/// Where the token of our own API comes from: who knows it may tell the daemon what to do. Holds none.
#[derive(Clone)]
pub struct TokenSource {
    file: Option<PathBuf>,
    variable: fn(&str) -> Option<OsString>,
}

impl TokenSource {
    /// The token that a configuration names.
    #[must_use]
    pub fn of(http: &HttpConfig) -> Self {
        Self::of_file_or_environment(http.token_file.clone())
    }

    /// The token in this file, or in the environment.
    #[must_use]
    pub fn of_file_or_environment(file: Option<PathBuf>) -> Self {
        Self { file, variable: |name| std::env::var_os(name) }
    }

    /// The token in this file and nowhere else; none where there is no file.
    #[must_use]
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, variable: |_| None }
    }

    /// The token: from `EVENKEEL_HTTP_TOKEN` unless that is unset or empty, else from the file; `None` without either.
    pub fn token(&self) -> Result<Option<SecretString>, SecretError> {
        secret((self.variable, TOKEN_VARIABLE), self.file.as_deref(), TOKEN)
    }
}

const PASSWORD: &str = "password";
const TOKEN: &str = "token";

/// What the variable holds unless it is unset or empty, else the file.
fn secret(
    (variable, name): (fn(&str) -> Option<OsString>, &'static str),
    file: Option<&Path>,
    what: &'static str,
) -> Result<Option<SecretString>, SecretError> {
    match variable(name) {
        Some(value) if !value.is_empty() => {
            value.into_string().map(|text| Some(text.into())).map_err(|_| SecretError::VariableNotText { name })
        }
        Some(_) | None => file.map(|file| read(file, what)).transpose(),
    }
}

/// A password or token that cannot be had. Never quotes what was read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("cannot read the {what} file {}: {why}", path.display())]
    Unreadable {
        /// What the file is to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why. Not a source: whoever prints those too would say it twice.
        why: io::Error,
    },
    /// The file is empty: most likely it is being replaced.
    #[error("the {what} file {} is empty", path.display())]
    Empty {
        /// What the file is to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file is longer than any.
    #[error("the {what} file {} is longer than {MAX_PASSWORD_BYTES} bytes: it is not a {what}", path.display())]
    TooLong {
        /// What the file is to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else than text.
    #[error("the {what} file {} is not UTF-8 text", path.display())]
    FileNotText {
        /// What the file is to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The environment variable holds something else than text.
    #[error("the environment variable {name} is not UTF-8 text")]
    VariableNotText {
        /// Its name.
        name: &'static str,
    },
}

/// The file's text without the one newline that editors and `echo` leave at its end.
fn read(path: &Path, what: &'static str) -> Result<SecretString, SecretError> {
    let path = || path.to_owned();
    let unreadable = |why| SecretError::Unreadable { what, path: path(), why };
    let mut bytes = Vec::new();
    let file = File::open(path()).map_err(unreadable)?;
    // One byte more than allowed tells a file that is too long from one that just fits.
    file.take(MAX_PASSWORD_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_PASSWORD_BYTES {
        return Err(SecretError::TooLong { what, path: path() });
    }
    let mut text = String::from_utf8(bytes).map_err(|_| SecretError::FileNotText { what, path: path() })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(SecretError::Empty { what, path: path() }) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Config, MigrateUser};

    const UNSET: fn(&str) -> Option<OsString> = |_| None;

    /// The directory and the secrets of a cluster whose password file has this content.
    fn file_with(content: &[u8], variable: fn(&str) -> Option<OsString>) -> (tempfile::TempDir, Secrets) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, content).unwrap();
        let mut cluster = Config::from_seeds(vec!["a:1".parse().unwrap()]).cluster;
        cluster.password_file = Some(file);
        (dir, Secrets::with_environment(&cluster, variable))
    }

    fn said(password: Result<Option<SecretString>, SecretError>) -> String {
        match password {
            Ok(password) => format!("{:?}", password.as_ref().map(ExposeSecret::expose_secret)),
            Err(error) => error.to_string(),
        }
    }

    fn check(content: &[u8], variable: fn(&str) -> Option<OsString>, expect: &str) {
        let (dir, secrets) = file_with(content, variable);
        assert_eq!(said(secrets.password()).replace(&dir.path().display().to_string(), "DIR"), expect);
    }

    #[test]
    fn one_newline_at_the_end_of_the_file_is_not_part_of_the_password() {
        check(b"hunter2", UNSET, r#"Some("hunter2")"#);
        check(b"hunter2\n", UNSET, r#"Some("hunter2")"#);
        check(b"hunter2\r\n", UNSET, r#"Some("hunter2")"#);
        check(b" hunter2 \n\n", UNSET, r#"Some(" hunter2 \n")"#);
    }

    #[test]
    fn the_variable_goes_before_the_file_unless_it_is_empty() {
        check(b"file", |name| (name == "EVENKEEL_PASSWORD").then(|| "variable".into()), r#"Some("variable")"#);
        check(b"file", |_| Some(OsString::new()), r#"Some("file")"#);
    }

    #[test]
    fn a_file_that_holds_no_password_is_named_and_not_quoted() {
        check(b"\n", UNSET, "the password file DIR/password is empty");
        check(b"hunter2\xff", UNSET, "the password file DIR/password is not UTF-8 text");
        check(&[b'x'; 5000], UNSET, "the password file DIR/password is longer than 4096 bytes: it is not a password");
        let (dir, secrets) = file_with(b"", UNSET);
        drop(dir);
        assert!(said(secrets.password()).starts_with("cannot read the password file "));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_once() {
        let absent = TokenSource::of_file(Some(PathBuf::from("/absent/token"))).token().expect_err("it is not there");
        let told = format!("{:#}", anyhow::Error::new(absent));
        assert_eq!(told, "cannot read the token file /absent/token: No such file or directory (os error 2)");
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let (dir, secrets) = file_with(b"old\n", UNSET);
        assert_eq!(said(secrets.password()), r#"Some("old")"#);
        std::fs::write(dir.path().join("password"), "new\n").unwrap();
        assert_eq!(said(secrets.password()), r#"Some("new")"#);
    }

    #[test]
    fn migrate_signs_in_with_our_password_unless_it_has_its_own() {
        let (dir, secrets) = file_with(b"ours", UNSET);
        assert_eq!(said(secrets.migrate_password()), r#"Some("ours")"#);

        let theirs = dir.path().join("migrate");
        std::fs::write(&theirs, "theirs").unwrap();
        let mut cluster = Config::from_seeds(vec!["a:1".parse().unwrap()]).cluster;
        assert_eq!(said(Secrets::with_environment(&cluster, UNSET).migrate_password()), "None");
        cluster.migrate = Some(MigrateUser { username: "mover".to_owned(), password_file: theirs });
        assert_eq!(said(Secrets::with_environment(&cluster, UNSET).migrate_password()), r#"Some("theirs")"#);
    }

    #[test]
    fn neither_the_provider_nor_a_password_prints_itself() {
        let (_dir, secrets) = file_with(b"hunter2", |_| Some("hunter2".into()));
        assert!(!format!("{secrets:?} {:?}", secrets.password()).contains("hunter2"));
    }
}
