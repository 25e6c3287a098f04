//! Rust's text becomes words and marks, without comments, lifetimes and what stands in quotes.

/// What the reader of imports tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// `::`
    Colons,
    /// One other character.
    Mark(char),
    /// A literal string, with its content: attributes name paths in them.
    Text(String),
}

impl Token {
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    pub(super) fn is_mark(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }

    pub(super) fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }
}

struct Lexer<'a> {
    left: &'a str,
    tokens: Vec<Token>,
}

/// The tokens of a source file.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { left: text, tokens: Vec::new() };
    while let Some(first) = lexer.left.chars().next() {
        lexer.next(first);
    }
    lexer.tokens
}

impl Lexer<'_> {
    fn skip(&mut self, bytes: usize) {
        self.left = self.left.get(bytes..).unwrap_or_default();
    }

    /// Skips to behind `end`, or to the end of the file.
    fn skip_past(&mut self, end: &str) {
        let bytes = self.left.find(end).map_or(self.left.len(), |at| at + end.len());
        self.skip(bytes);
    }

    fn next(&mut self, first: char) {
        match first {
            _ if self.left.starts_with("//") => self.skip_past("\n"),
            _ if self.left.starts_with("/*") => self.comment(),
            _ if self.left.starts_with("::") => {
                self.tokens.push(Token::Colons);
                self.skip(2);
            }
            '"' => self.string(),
            '\'' => self.quote(),
            _ if first.is_alphanumeric() || first == '_' => self.word(),
            _ => {
                if !first.is_whitespace() {
                    self.tokens.push(Token::Mark(first));
                }
                self.skip(first.len_utf8());
            }
        }
    }

    /// A block comment: they nest.
    fn comment(&mut self) {
        let mut depth = 0;
        while !self.left.is_empty() {
            let (open, close) = (self.left.starts_with("/*"), self.left.starts_with("*/"));
            depth += i32::from(open) - i32::from(close);
            let step = self.left.chars().next().map_or(1, char::len_utf8);
            self.skip(if open || close { 2 } else { step });
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let mut escaped = false;
        let end = self.left[1..].find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.map_or(self.left.len(), |at| at + 1);
        self.tokens.push(Token::Text(self.left[1..end].to_owned()));
        self.skip(end + 1);
    }

    fn raw_string(&mut self, hashes: usize) {
        self.skip(hashes + 1);
        let close = format!("\"{}", "#".repeat(hashes));
        let end = self.left.find(&close).unwrap_or(self.left.len());
        self.tokens.push(Token::Text(self.left[..end].to_owned()));
        self.skip(end + close.len());
    }

    /// A character in quotes, or a lifetime: neither is a token.
    fn quote(&mut self) {
        let rest = &self.left[1..];
        let mut chars = rest.chars();
        let (first, second) = (chars.next().unwrap_or_default(), chars.next());
        if first == '\\' {
            let end = rest[2..].find('\'').map_or(rest.len(), |at| at + 3);
            self.skip(1 + end);
        } else if second == Some('\'') {
            self.skip(2 + first.len_utf8());
        } else {
            let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.skip(1 + name);
        }
    }

    fn word(&mut self) {
        let end = self.left.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.left.len());
        let word = self.left[..end].to_owned();
        self.skip(end);
        let hashes = self.left.chars().take_while(|c| *c == '#').count();
        let quoted = self.left[hashes..].starts_with('"');
        match word.as_str() {
            "r" | "br" | "cr" if quoted => self.raw_string(hashes),
            "r" if hashes == 1 => self.skip(1), // a raw identifier: its name comes next
            "b" | "c" if quoted && hashes == 0 => self.string(),
            "b" if self.left.starts_with('\'') => self.quote(),
            _ => self.tokens.push(Token::Word(word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        let one = |token: &Token| match token {
            Token::Word(word) => word.clone(),
            Token::Colons => "::".to_owned(),
            Token::Mark(mark) => mark.to_string(),
            Token::Text(text) => format!("<{text}>"),
        };
        tokens(text).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_are_left_out_and_strings_are_kept_apart() {
        for (text, expected) in [
            ("use a::b; // crate::c", "use a :: b ;"),
            ("/* a /* b */ c */ d /**/ e", "d e"),
            (r#"f("a::b \" {", 'x', '\'', '"', b'{', '\u{7b}')"#, r#"f ( <a::b \" {> , , , , , )"#),
            (r###"r"{" r#"a " b"# br##"}"## b"c""###, r#"<{> <a " b> <}> <c>"#),
            ("fn f<'a>(x: &'a str) -> &'static str", "fn f < > ( x : & str ) - > & str"),
            ("r#type::r#use 1_000u64 0..2", "type :: use 1_000u64 0 . . 2"),
            ("'ä' \"ü", "<ü>"),
        ] {
            assert_eq!(printed(text), expected, "{text}");
        }
    }
}
