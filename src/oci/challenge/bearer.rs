//! What a Bearer challenge says: where a client gets a token, and for what.

use std::fmt;

/// The token service to ask for a bearer token, and its scope (distribution-spec, "Token Authentication").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bearer {
    /// The URL of the token service. Any text: the code that uses it must check it.
    pub realm: String,
    /// The name of the registry at the token service.
    pub service: Option<String>,
    /// What the token must be for, such as `repository:library/alpine:pull`; separated by spaces.
    pub scopes: Vec<String>,
    /// Why the token that was sent did not suffice: `invalid_token`, `insufficient_scope` (RFC 6750, 3.1).
    pub error: Option<String>,
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " realm={}", Quoted(&self.realm))?;
        let scope = (!self.scopes.is_empty()).then(|| self.scopes.join(" "));
        let others = [("service", &self.service), ("scope", &scope), ("error", &self.error)];
        for (name, value) in others {
            if let Some(value) = value {
                write!(f, ",{name}={}", Quoted(value))?;
            }
        }
        Ok(())
    }
}

/// Prints a quoted-string. Control characters are not allowed in one and are left out: they could end the header.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars().filter(|character| !character.is_control()) {
            if matches!(character, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        f.write_str("\"")
    }
}
