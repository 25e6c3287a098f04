//! Reads the challenges of one `WWW-Authenticate` header (RFC 9110, 11.6.1).
//!
//! Commas separate both challenges and their parameters; a name followed by `=` is a parameter of the challenge before
//! it. A value that should be quoted may do without: some registries send `scope=repository:a/b:pull`. If a header breaks
//! the grammar otherwise, only the part before the error counts.

/// Reads one header from left to right.
pub(crate) struct HeaderReader<'a> {
    rest: &'a str,
}

impl<'a> HeaderReader<'a> {
    pub(crate) fn of(header: &'a str) -> Self {
        Self { rest: header }
    }

    /// The start of each challenge, its scheme and its parameters.
    pub(crate) fn items(mut self) -> Vec<(usize, &'a str, Vec<(String, String)>)> {
        let (length, mut found) = (self.rest.len(), Vec::new());
        loop {
            self.separators();
            let at = length - self.rest.len();
            let Some(scheme) = self.token() else { break };
            let mut parameters = Vec::new();
            let whole = self.parameters(&mut parameters).is_some();
            found.push((at, scheme, parameters));
            if !whole {
                break;
            }
        }
        found
    }

    /// Reads parameters up to the next scheme or the end; `None` if the grammar is broken.
    fn parameters(&mut self, parameters: &mut Vec<(String, String)>) -> Option<()> {
        if !self.rest.is_empty() && !self.rest.starts_with([' ', '\t', ',']) {
            return None;
        }
        self.spaces();
        if self.token68() {
            return self.end_of_item();
        }
        loop {
            let before = self.rest;
            self.separators();
            let here = self.rest;
            let parted = before[..before.len() - here.len()].contains(',');
            let Some(name) = self.token() else { return self.rest.is_empty().then_some(()) };
            self.spaces();
            let Some(value) = self.rest.strip_prefix('=') else {
                self.rest = here; // the scheme of the next challenge, which follows a comma
                return parted.then_some(());
            };
            self.rest = value;
            self.spaces();
            let value = if self.rest.starts_with('"') { self.quoted()? } else { self.unquoted(name)?.to_owned() };
            parameters.push((name.to_owned(), value));
            self.end_of_item()?;
        }
    }

    fn end_of_item(&mut self) -> Option<()> {
        self.spaces();
        (self.rest.is_empty() || self.rest.starts_with(',')).then_some(())
    }

    /// Skips one word of credentials right after the scheme, as in `Negotiate`, followed by a comma or the end. `a=` counts
    /// too: as a parameter it would have no value, which nobody sends.
    fn token68(&mut self) -> bool {
        let word = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let tail = self.rest.trim_start_matches(word);
        let after = tail.trim_start_matches('=').trim_start_matches([' ', '\t']);
        let is_one = tail.len() < self.rest.len() && (after.is_empty() || after.starts_with(','));
        if is_one {
            self.rest = after;
        }
        is_one
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A value that should be quoted and is not, such as a URL or a scope: up to the next comma, with the words behind
    /// spaces unless another parameter is among them, and with the actions of a scope, which have commas between them.
    fn unquoted(&mut self, name: &str) -> Option<&'a str> {
        const ACTIONS: [&str; 4] = ["pull", "push", "delete", "*"];
        let is_value = |c: char| !c.is_control() && !matches!(c, '"' | ',');
        let piece = |text: &'a str| &text[..text.find(|c| !is_value(c)).unwrap_or(text.len())];
        let text = self.rest;
        let mut end = piece(text).len();
        if let Some((word, further)) = text[..end].split_once([' ', '\t']) {
            // What stands behind an unquoted value without a comma is none of its words if it reads as a parameter.
            if further.contains('=') || text[end..].starts_with('"') {
                end = word.len();
            }
        }
        while name.eq_ignore_ascii_case("scope") && text[end..].starts_with(',') {
            let next = piece(&text[end + 1..]);
            let action = next.split([' ', '\t']).next().unwrap_or_default();
            if !ACTIONS.contains(&action) || next[action.len()..].contains('=') {
                break;
            }
            end += 1 + next.len();
        }
        self.rest = &text[end..];
        let value = text[..end].trim_end_matches([' ', '\t']);
        (!value.is_empty()).then_some(value)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                plain => value.push(plain),
            }
        }
        None
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn separators(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }
}
