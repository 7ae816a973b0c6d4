//! Which version writes keys in which format (that of `DUMP`, `RESTORE` and `MIGRATE`), and who can read it.

use super::{Product, ServerVersion};

/// Numbers of formats that Redis has taken since Valkey went its own way; Valkey refuses them whatever they hold.
const FOREIGN_TO_VALKEY: std::ops::RangeInclusive<u16> = 12..=79;

impl ServerVersion {
    /// Whether a server of this version is known to refuse the keys that one of version `writer` sends.
    ///
    /// False where either version is not known: the first `MIGRATE` then tells, and nothing is lost by it. Valkey can
    /// be told to read formats newer than its own (`rdb-version-check relaxed`); that is not considered here.
    #[must_use]
    pub fn refuses_keys_of(self, writer: Self) -> bool {
        let (Some(written), Some(read)) = (writer.format(), self.format()) else { return false };
        let foreign = match self.product {
            Product::Redis => false,
            Product::Valkey => FOREIGN_TO_VALKEY.contains(&written),
        };
        written > read || foreign
    }

    /// The number of the format that this version writes, which is also the highest that it reads.
    ///
    /// Measured, each version against each, on Redis 6.2 to 8.4 and Valkey 8.0 to 9.1; Redis 5.0 and 8.0 and Valkey
    /// 7.2 from their sources.
    const fn format(self) -> Option<u16> {
        match (self.product, self.major, self.minor) {
            (Product::Redis, 5, 0) | (Product::Redis, 6, 0 | 2) => Some(9),
            (Product::Redis, 7, 0) => Some(10),
            (Product::Redis | Product::Valkey, 7, 2) | (Product::Valkey, 8, 0 | 1) => Some(11),
            (Product::Redis, 7, 4) | (Product::Redis, 8, 0 | 2 | 4) => Some(12),
            (Product::Valkey, 9, 0 | 1) => Some(80),
            (Product::Redis | Product::Valkey, _, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `R7.0` is Redis 7.0.
    fn version(text: &str) -> ServerVersion {
        let (product, numbers) = text.split_at(1);
        let product = if product == "R" { Product::Redis } else { Product::Valkey };
        let (major, minor) = numbers.split_once('.').unwrap();
        ServerVersion { product, major: major.parse().unwrap(), minor: minor.parse().unwrap(), patch: 3 }
    }

    /// `R6.2 > R7.0` for a move that is known to fail, in either direction of each pair.
    fn refused(versions: &[&str]) -> Vec<String> {
        let pairs = versions.iter().flat_map(|source| versions.iter().map(move |target| (source, target)));
        pairs
            .filter(|(source, target)| version(target).refuses_keys_of(version(source)))
            .map(|(source, target)| format!("{source} > {target}"))
            .collect()
    }

    #[test]
    fn a_family_moves_upwards_only() {
        assert_eq!(refused(&["R6.2", "R7.0", "R7.2"]), ["R7.0 > R6.2", "R7.2 > R6.2", "R7.2 > R7.0"]);
        assert_eq!(refused(&["R7.4", "R8.0", "R8.2", "R8.4"]), Vec::<String>::new());
        assert_eq!(
            refused(&["V7.2", "V8.1", "V9.0", "V9.1"]),
            ["V9.0 > V7.2", "V9.0 > V8.1", "V9.1 > V7.2", "V9.1 > V8.1"]
        );
    }

    #[test]
    fn redis_to_7_2_moves_to_valkey_and_nothing_newer_does() {
        assert_eq!(refused(&["R7.2", "V8.1"]), Vec::<String>::new());
        assert_eq!(refused(&["R7.0", "V9.1"]), ["V9.1 > R7.0"]);
        assert_eq!(refused(&["R8.2", "V9.1"]), ["R8.2 > V9.1", "V9.1 > R8.2"]);
        assert_eq!(refused(&["R7.4", "V8.1"]), ["R7.4 > V8.1"]);
    }

    #[test]
    fn nothing_is_foretold_of_versions_that_are_not_known() {
        assert_eq!(refused(&["R255.255", "R6.2", "V99.0"]), Vec::<String>::new());
    }
}
