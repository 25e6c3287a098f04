//! Parses a query or a form: decodes it once, so that checks see its values, and prints it again from them.
//!
//! Threat: to a server, `%66rom=` is `from=` and `from=%69nternal` is `from=internal`; a comparison of texts misses both.

use std::fmt;

use zeroize::Zeroizing;

use super::percent;

/// The parameters of a query or a form, in order (URL Standard, application/x-www-form-urlencoded).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<Parameter>);

#[derive(Clone, PartialEq, Eq)]
struct Parameter {
    name: Zeroizing<String>,
    value: Zeroizing<String>,
    /// Both in their one spelling: a `+` and an escaped space are equal only to some servers, so they stay distinct.
    printed: Zeroizing<String>,
}

/// A query that servers may read in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A `%` without two hexadecimal digits, or a control character.
    #[error("the query has a broken escape or a control character")]
    Escape,
    /// A duplicate parameter, of which servers use the first or the last; or one in another case, which some accept.
    #[error("the query has a duplicate parameter {0}, or one in another spelling")]
    Ambiguous(&'static str),
}

impl Query {
    /// Parses a query (without its `?`) or a form. Empty parameters are left out.
    ///
    /// # Errors
    /// [`BadQuery::Escape`].
    pub fn parse(text: &str) -> Result<Self, BadQuery> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| Parameter::parse(pair).ok_or(BadQuery::Escape)).collect::<Result<_, _>>().map(Self)
    }

    /// The value of the parameter `name`, which may appear once.
    ///
    /// # Errors
    /// [`BadQuery::Ambiguous`] if it is duplicate, or written in another case.
    pub fn only(&self, name: &'static str) -> Result<Option<&str>, BadQuery> {
        let mut alike = self.0.iter().filter(|parameter| parameter.name.eq_ignore_ascii_case(name));
        match (alike.next(), alike.next()) {
            (None, _) => Ok(None),
            (Some(parameter), None) if *parameter.name == name => Ok(Some(&parameter.value)),
            _ => Err(BadQuery::Ambiguous(name)),
        }
    }

    /// The same without the parameter `name`, in whatever case it is written.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|parameter| !parameter.name.eq_ignore_ascii_case(name)).cloned().collect())
    }

    /// The same with one parameter `name`, of this value.
    #[must_use]
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut changed = self.without(name);
        changed.0.extend(Parameter::of(name, value));
        changed
    }

    /// All parameters as (name, value), decoded.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|parameter| (parameter.name.as_str(), parameter.value.as_str()))
    }

    /// Whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Parameter {
    /// One that is made here: every byte that is not plain is escaped.
    fn of(name: &str, value: &str) -> Option<Self> {
        let escaped: String = value.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
            text
        });
        Self::parse(&format!("{name}={escaped}"))
    }

    fn parse(pair: &str) -> Option<Self> {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        let spelt = |text| percent::normalised(text, b"!$'()*,:@/?+").map(Zeroizing::new);
        let mut printed = spelt(name)?;
        if let Some(value) = value {
            printed.push('=');
            printed.push_str(&spelt(value)?);
        }
        let (name, value) = (decoded(name), decoded(value.unwrap_or_default()));
        let is_clean = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
        (is_clean(&name) && is_clean(&value)).then_some(Self { name, value, printed })
    }
}

fn decoded(text: &str) -> Zeroizing<String> {
    let spaced = Zeroizing::new(text.replace('+', " "));
    let bytes = Zeroizing::new(percent::decoded(spaced.as_bytes()));
    Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, parameter) in self.0.iter().enumerate() {
            let joint = if at == 0 { "" } else { "&" };
            write!(f, "{joint}{}", *parameter.printed)?;
        }
        Ok(())
    }
}

/// Shows only names: values may be secrets.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_says_what_was_read() {
        let table = [
            ("", ""),
            ("n=100&last=a%2fb", "n=100&last=a%2Fb"),
            ("%66rom=%69nternal%2Fapp", "from=internal%2Fapp"),
            ("&&a&b=&c=d=e&", "a&b=&c=d%3De"),
            ("a=1;from=internal", "a=1%3Bfrom%3Dinternal"),
            ("a=x+y%20z%2B", "a=x+y%20z%2B"),
            ("_state=AbC-_%3D%3D", "_state=AbC-_%3D%3D"),
        ];
        for (text, expected) in table {
            assert_eq!(Query::parse(text).map(|query| query.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_parameter_that_is_judged_is_there_once_and_as_it_is_spelt() {
        let table = [
            ("a=b", Ok(None)),
            ("from=a%2Fb", Ok(Some("a/b"))),
            ("%66rom=%61", Ok(Some("a"))),
            ("from", Ok(Some(""))),
            ("from=a&from=a", Err(BadQuery::Ambiguous("from"))),
            ("From=a", Err(BadQuery::Ambiguous("from"))),
            ("from=a&%46rom=b", Err(BadQuery::Ambiguous("from"))),
            ("from=a%00", Err(BadQuery::Escape)),
            ("from=%", Err(BadQuery::Escape)),
        ];
        for (text, expected) in table {
            let query = Query::parse(text);
            let found = query.as_ref().map_err(|bad| *bad).and_then(|query| query.only("from"));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_parameter_is_taken_out_or_replaced_and_the_others_stay() {
        let query = Query::parse("ns=docker.io&n=1&NS=x&last=a+b&from=old").unwrap();
        assert_eq!(query.without("ns").to_string(), "n=1&last=a+b&from=old");
        assert_eq!(query.with("from", "team/a b&c").to_string(), "ns=docker.io&n=1&NS=x&last=a+b&from=team/a%20b%26c");
        assert_eq!(Query::default().without("ns").to_string(), "");
    }

    proptest::proptest! {
        #[test]
        fn printing_is_final_and_says_the_same(text in "([a-z+%&=;]|%[0-9a-f]{2}|.){0,30}") {
            if let Ok(query) = Query::parse(&text) {
                let again = Query::parse(&query.to_string()).unwrap();
                let pairs = |query: &Query| query.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>();
                proptest::prop_assert_eq!(pairs(&query), pairs(&again));
                proptest::prop_assert_eq!(query.to_string(), again.to_string());
            }
        }
    }
}
