//! The real servers that `tests/servers/fetch` gets.

use std::path::{Path, PathBuf};

/// A server program of one version line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Redis 6.2: no `ADDSLOTSRANGE`, no `CLUSTER SHARDS`, `DEBUG` always allowed.
    Redis62,
    /// Redis 7.0: the only one of these with TLS.
    Redis70,
    /// Redis 8.2.
    Redis82,
    /// Redis 8.6, where it could be fetched: hides keys of slots that a node does not own.
    Redis86,
    /// Valkey 8.1: replicates `SETSLOT`.
    Valkey81,
    /// Valkey 9.1: has `CLUSTER MIGRATESLOTS` and numbered databases in a cluster.
    Valkey91,
}

impl Flavour {
    /// The name by which `tests/servers/fetch` knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis62 => "redis-6.2",
            Self::Redis70 => "redis-7.0",
            Self::Redis82 => "redis-8.2",
            Self::Redis86 => "redis-8.6",
            Self::Valkey81 => "valkey-8.1",
            Self::Valkey91 => "valkey-9.1",
        }
    }

    /// The server's executable. Panics, saying how to get it, where it is absent.
    pub(crate) fn server(self) -> PathBuf {
        let server = self.place();
        assert!(server.is_file(), "no {} here: run `tests/servers/fetch {0}`", self.name());
        server
    }

    /// Whether it could be fetched; says so where it could not, for the stories that do without.
    pub(crate) fn is_here(self) -> bool {
        let here = self.place().is_file();
        if !here {
            eprintln!("left out: no {} here; run `tests/servers/fetch {0}`", self.name());
        }
        here
    }

    fn place(self) -> PathBuf {
        // Cargo's directory for the files of tests is `tmp` in the target directory.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory has a parent");
        target.join("servers").join(self.name()).join("server")
    }

    /// Whether `DEBUG` must be enabled by an argument.
    pub(super) fn guards_debug(self) -> bool {
        match self {
            Self::Redis62 => false,
            Self::Redis70 | Self::Redis82 | Self::Redis86 | Self::Valkey81 | Self::Valkey91 => true,
        }
    }

    /// Whether the program that is fetched was built with TLS.
    pub(super) fn has_tls(self) -> bool {
        match self {
            Self::Redis70 => true,
            Self::Redis62 | Self::Redis82 | Self::Redis86 | Self::Valkey81 | Self::Valkey91 => false,
        }
    }
}
