//! Which paths a source text names. A reader of Rust's surface only: comments, strings and test code are left out,
//! `use` trees are spelt out, and `self` and `super` are resolved from the place of the file.
//!
//! Not read: what macros make, and modules written inside a file other than those of tests (there are none).

/// A path that a text names, such as `crate::plan::Move`, `Instant::now` or `.await`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Counted from 1.
    pub(super) line: usize,
    /// In the order in which it is written.
    pub(super) segments: Vec<String>,
}

/// What a text holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every path outside the tests, in the order of the text.
    pub(super) named: Vec<Named>,
    /// The modules that the text declares for tests only.
    pub(super) test_modules: Vec<String>,
}

/// Reads a text that lies in this module, given as its segments: `["plan", "bind"]`.
pub(super) fn scan(text: &str, module: &[String]) -> Scan {
    let (tokens, test_modules) = without_tests(tokens(text));
    let mut reader = Reader { tokens: &tokens, at: 0, module, named: Vec::new() };
    reader.read();
    Scan { named: reader.named, test_modules }
}

/// A name, `::`, or any other character that means something.
#[derive(Clone, Copy, Debug)]
struct Token<'t> {
    line: usize,
    text: &'t str,
}

impl Token<'_> {
    fn is_name(self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let after_name = tokens.last().is_some_and(|last: &Token<'_>| last.is_name());
        let prefix = tokens.last().filter(|_| after_name && !text[..at].ends_with(char::is_whitespace));
        let raw = prefix.is_some_and(|last| matches!(last.text, "r" | "br" | "cr"));
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (length, keep) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |end| end + 2), false)
        } else if raw && rest[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 1;
            (rest[body..].find(&end).map_or(rest.len(), |found| body + found + end.len()), false)
        } else if first == '"' {
            (quoted(rest, '"'), false)
        } else if first == '\'' {
            (character(rest), false)
        } else if is_word(first) {
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let piece = &rest[..length];
        if keep {
            tokens.push(Token { line, text: piece });
        }
        line += piece.matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of a quoted text, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character in quotes, or of the quote alone that begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}

/// The tokens without the items that are compiled for tests only, and the modules among those that are files.
fn without_tests(tokens: Vec<Token<'_>>) -> (Vec<Token<'_>>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().map(|token| token.text).take(MARK.len()).eq(MARK) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        let item = &tokens[at + MARK.len()..];
        let length = item_length(item);
        let ends_in_file = item.get(length - 1).is_some_and(|last| last.text == ";");
        let is_module = item[..length].iter().position(|token| token.text == "mod");
        if let (true, Some(word)) = (ends_in_file, is_module) {
            modules.push(item[word + 1].text.to_owned());
        }
        at += MARK.len() + length;
    }
    (kept, modules)
}

/// Up to the semicolon, or to the brace that closes the first one.
fn item_length(item: &[Token<'_>]) -> usize {
    let mut depth = 0;
    for (at, token) in item.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 && item.get(at + 1).is_none_or(|next| next.text != ";") {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    module: &'a [String],
    named: Vec<Named>,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(&token) = self.tokens.get(self.at) {
            if token.text == "use" {
                self.at += 1;
                self.use_tree(&[]);
            } else if token.is_name() {
                let after_dot = self.at > 0 && self.tokens[self.at - 1].text == ".";
                let segments = self.path();
                if after_dot {
                    self.name(token.line, vec![format!(".{}", segments[0])]);
                } else {
                    self.name(token.line, segments);
                }
            } else {
                self.at += 1;
            }
        }
    }

    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    /// `a::b::c`; what follows a turbofish is a path of its own.
    fn path(&mut self) -> Vec<String> {
        let mut segments = vec![self.text().to_owned()];
        self.at += 1;
        while self.text() == "::" && self.tokens.get(self.at + 1).is_some_and(|next| next.is_name()) {
            segments.push(self.tokens[self.at + 1].text.to_owned());
            self.at += 2;
        }
        segments
    }

    /// Every path of a `use`, braces spelt out.
    fn use_tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        while let Some(&token) = self.tokens.get(self.at) {
            self.at += 1;
            match token.text {
                "{" => {
                    while !matches!(self.text(), "}" | ";" | "") {
                        self.use_tree(&segments);
                        if self.text() == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "::" => {}
                word => {
                    let inner_self = word == "self" && !segments.is_empty();
                    segments.extend((!inner_self).then(|| word.to_owned()));
                    if self.text() != "::" {
                        self.name(token.line, segments);
                        if self.text() == "as" {
                            self.at += 2;
                        }
                        return;
                    }
                }
            }
        }
    }

    fn name(&mut self, line: usize, segments: Vec<String>) {
        let segments = self.resolve(segments);
        self.named.push(Named { line, segments });
    }

    /// From the root of the crate, where the path begins with `self` or `super`.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let mut base = self.module.to_vec();
        let mut rest = segments.as_slice();
        if segments.len() < 2 || !matches!(segments[0].as_str(), "self" | "super") {
            return segments;
        }
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = others;
        }
        ["crate".to_owned()].into_iter().chain(base).chain(rest.iter().cloned()).collect()
    }
}
