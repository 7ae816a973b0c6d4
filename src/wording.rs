//! Words that several texts for people share.

/// `1 slot`, `2 slots`; `1 primary`, `2 primaries`; `1 key`, `2 keys`.
pub(crate) fn plural(count: impl ToString, noun: &str) -> String {
    let count = count.to_string();
    match noun.strip_suffix('y') {
        _ if count == "1" => format!("1 {noun}"),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        Some(_) | None => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_said_otherwise_than_many() {
        let told =
            ["slot", "primary", "key", "replica"].map(|noun| [plural(0, noun), plural(1, noun), plural(7_u64, noun)]);
        let expect = [
            ["0 slots", "1 slot", "7 slots"],
            ["0 primaries", "1 primary", "7 primaries"],
            ["0 keys", "1 key", "7 keys"],
            ["0 replicas", "1 replica", "7 replicas"],
        ];
        assert_eq!(told, expect);
    }
}
