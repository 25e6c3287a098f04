//! Parses an htpasswd file: users and the bcrypt hashes of their passwords. Other hashes are refused by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// More would take seconds for each login.
const MOST_COST: u32 = 16;
const USER_LIMIT: usize = 255;

/// The users of a file.
#[derive(Clone)]
pub struct Users {
    hashes: HashMap<Arc<str>, Arc<str>>,
    decoy: Arc<str>,
}

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct BadLine {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, and what was expected; nothing of a hash.
    pub text: String,
}

impl Users {
    /// Reads a file's bytes. Empty lines and those that begin with `#` mean nothing.
    ///
    /// # Errors
    /// Each line that cannot be used; line 1 for a file without users.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<BadLine>> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(vec![BadLine { line: 1, text: "the file is not UTF-8; expected text".into() }]);
        };
        let (mut hashes, mut bad_lines) = (HashMap::<Arc<str>, Arc<str>>::new(), Vec::new());
        let mut decoy: Option<(u32, Arc<str>)> = None;
        for (line, row) in (1..).zip(text.lines()) {
            let row = row.trim_end();
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            match entry(row) {
                Err(text) => bad_lines.push(BadLine { line, text }),
                Ok((user, ..)) if hashes.contains_key(user) => {
                    bad_lines.push(BadLine { line, text: format!("duplicate user {user:?}; expected each user once") });
                }
                Ok((user, hash, cost)) => {
                    let hash: Arc<str> = hash.into();
                    if decoy.as_ref().is_none_or(|(most, _)| cost > *most) {
                        decoy = Some((cost, hash.clone()));
                    }
                    hashes.insert(user.into(), hash);
                }
            }
        }
        match decoy {
            Some((_, decoy)) if bad_lines.is_empty() => Ok(Self { hashes, decoy }),
            None if bad_lines.is_empty() => {
                let text = "the file contains no users; expected lines such as those of htpasswd -B".into();
                Err(vec![BadLine { line: 1, text }])
            }
            _ => Err(bad_lines),
        }
    }

    /// A hash to compute for a user that is not there: a name that nobody has takes as long to refuse as one
    /// that somebody has.
    pub(crate) fn decoy(&self) -> Arc<str> {
        self.decoy.clone()
    }

    /// A user's name as the file has it, and the hash.
    pub(crate) fn find(&self, user: &str) -> Option<(Arc<str>, Arc<str>)> {
        self.hashes.get_key_value(user).map(|(user, hash)| (user.clone(), hash.clone()))
    }

    /// Whether there is such a user.
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        self.hashes.contains_key(user)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hashes.len()
    }
}

/// User, hash, and the hash's cost.
fn entry(row: &str) -> Result<(&str, &str, u32), String> {
    let (user, hash) = row.split_once(':').ok_or("no colon; expected user:hash, as htpasswd -B writes it")?;
    if user.is_empty() || user.len() > USER_LIMIT || user.chars().any(char::is_control) {
        return Err("the user name is empty or too long; expected up to 255 characters".into());
    }
    let kind = match hash {
        _ if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) => return bcrypt(user, hash),
        _ if hash.starts_with("$2x$") => "the old, broken bcrypt",
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => "MD5",
        _ if hash.starts_with("{SHA}") => "SHA-1",
        _ if hash.starts_with("$5$") || hash.starts_with("$6$") => "SHA-crypt",
        _ => "an unknown hash",
    };
    Err(format!("the password of {user:?} is stored as {kind}; expected bcrypt: htpasswd -B FILE {user}"))
}

fn bcrypt<'a>(user: &'a str, hash: &'a str) -> Result<(&'a str, &'a str, u32), String> {
    let parts: bcrypt::HashParts =
        hash.parse().map_err(|_| format!("the hash of {user:?} is damaged; expected 60 characters of bcrypt"))?;
    match parts.get_cost() {
        cost @ 4..=MOST_COST => Ok((user, hash, cost)),
        cost => Err(format!(
            "the hash of {user:?} has a cost of {cost}; expected 4 to {MOST_COST}, such as htpasswd -B -C 10"
        )),
    }
}

/// Names no hash.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hashes.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$04$TLHWBBRDNsQ8brhPCVeWFeCFtxcX0dgUsUOwR.8tDnMq8cnkYnVDK";

    #[test]
    fn users_and_their_hashes_are_read() {
        let text = format!("# comment\n\nalice:{HASH}\r\nbob:{}\n", HASH.replace("2y", "2b"));
        let users = Users::parse(text.as_bytes()).unwrap();
        assert_eq!((users.count(), users.contains("alice"), users.contains("Alice")), (2, true, false));
        assert!(!format!("{users:?}").contains("$2"));
    }

    #[test]
    fn every_other_line_is_refused_by_its_number_and_kind() {
        let table = [
            ("alice", "no colon"),
            (":x", "name is empty"),
            ("a:$apr1$x$y", "stored as MD5; expected bcrypt: htpasswd -B FILE a"),
            ("a:{SHA}x", "SHA-1"),
            ("a:$6$x$y", "SHA-crypt"),
            ("a:$2x$04$abc", "the old, broken bcrypt"),
            ("a:canary", "an unknown hash"),
            ("a:$2y$04$short", "damaged"),
            (&format!("a:{}", HASH.replace("$04$", "$31$")), "cost of 31"),
        ];
        for (row, expected) in table {
            let bad_lines = Users::parse(format!("# first\n{row}\n").as_bytes()).unwrap_err();
            assert_eq!(bad_lines.len(), 1, "{row}: {bad_lines:?}");
            assert!(bad_lines[0].line == 2 && bad_lines[0].text.contains(expected), "{row}: {}", bad_lines[0]);
            assert!(!bad_lines[0].text.contains("canary"));
        }
        let twice = format!("a:{HASH}\na:{HASH}\n");
        assert_eq!(Users::parse(twice.as_bytes()).unwrap_err()[0].line, 2);
        assert_eq!(Users::parse(b"# nobody\n").unwrap_err()[0].line, 1);
        assert!(Users::parse(b"\xff").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics_the_parser(text in "([a:$2y0\n{}]|.){0,80}") {
            let _ = Users::parse(text.as_bytes());
        }
    }
}
