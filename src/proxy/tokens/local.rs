//! Mints tokens of our own, for while a registry's token service is away: `registry, holder, expiry` under a MAC.
//!
//! Threat: a token made by a client, taken to another registry, or used for ever. Defence: an HMAC under a key
//! that never leaves its file, the registry inside the MAC, an end after 300 s. Exposure: who reads the key file
//! can be any holder at this proxy. Such a token means nothing to a registry and is never sent to one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::{hmac, rand};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use zeroize::Zeroizing;

use crate::oci::{Authorization, Bearer};

/// How long a token lives.
pub const LOCAL_TOKEN_LIFE: Duration = Duration::from_secs(300);
/// The registry of a token that a mirror gives where a name takes no credentials: none has this name in the cache.
pub(crate) const NO_REGISTRY: &str = "/";
/// Where on a registry's host a client gets one.
pub const LOCAL_TOKEN_PATH: &str = "/v2/_pullthrough/token";

/// Tells local tokens from every registry's: no JWT and no opaque token of a registry begins so.
const PREFIX: &str = "pullthrough-local-1.";
const KEY_BYTES: usize = 32;
/// The purpose of the MAC, so that other uses of the key, if there ever are any, make no tokens.
const PURPOSE: &[u8] = b"pullthrough local token 1\0";

/// The holder that a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Somebody without credentials: public content, or the proxy's own credentials.
    Nobody,
    /// A principal, as the grants know it.
    Known([u8; 32]),
}

/// The key of such tokens. Cheap to clone.
#[derive(Clone)]
pub struct LocalTokens {
    key: hmac::Key,
}

/// A token that is not honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLocalToken {
    /// It is no local token, or was changed.
    #[error("the token was not issued by this proxy")]
    Forged,
    /// It is for another registry.
    #[error("the token is for another registry")]
    Elsewhere,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or written.
    #[error("{} cannot be read or written", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// Others may read it.
    #[error("{} can be read by others; expected mode 0600 (or delete it: the proxy creates a new one)", .0.display())]
    Open(PathBuf),
    /// It is not 32 bytes long.
    #[error("{} is not a key of 32 bytes; delete it: the proxy creates a new one", .0.display())]
    Length(PathBuf),
    /// The system has no random numbers.
    #[error("the system's random numbers cannot be read")]
    NoRandom,
}

impl LocalTokens {
    /// Reads the key of `file`, or makes one: 32 random bytes, mode 0600, synced before it counts. Blocks. The
    /// folder must belong to this process alone.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(file: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File(file.to_owned(), source);
        match File::open(file) {
            Ok(open) => Self::read(open, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = Zeroizing::new([0; KEY_BYTES]);
                rand::fill(&mut *bytes).map_err(|_| KeyError::NoRandom)?;
                create(file, &*bytes).map_err(failed)?;
                Ok(Self::of_key(&bytes))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Tokens under a key that dies with the process.
    ///
    /// # Errors
    /// [`KeyError::NoRandom`].
    pub fn of_this_run() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(&mut *bytes).map_err(|_| KeyError::NoRandom)?;
        Ok(Self::of_key(&bytes))
    }

    fn read(mut open: File, file: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File(file.to_owned(), source);
        if open.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(KeyError::Open(file.to_owned()));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        (&mut open).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        let bytes: Zeroizing<[u8; KEY_BYTES]> =
            Zeroizing::new(bytes.as_slice().try_into().map_err(|_| KeyError::Length(file.to_owned()))?);
        Ok(Self::of_key(&bytes))
    }

    fn of_key(bytes: &[u8; KEY_BYTES]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    /// A token of `holder` at `registry` (its name in the cache, which no other registry has), good from `now`
    /// for [`LOCAL_TOKEN_LIFE`].
    #[must_use]
    pub fn mint(&self, registry: &str, holder: Holder, now: SystemTime) -> String {
        let end = now + LOCAL_TOKEN_LIFE;
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut bytes = end.to_be_bytes().to_vec();
        match holder {
            Holder::Nobody => bytes.push(0),
            Holder::Known(principal) => {
                bytes.push(1);
                bytes.extend_from_slice(&principal);
            }
        }
        bytes.extend_from_slice(registry.as_bytes());
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(mac.as_ref());
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whom a token stands for at `registry`, at `now`.
    ///
    /// # Errors
    /// [`BadLocalToken`].
    pub fn validate(&self, registry: &str, token: &str, now: SystemTime) -> Result<Holder, BadLocalToken> {
        let encoded = token.strip_prefix(PREFIX).ok_or(BadLocalToken::Forged)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| BadLocalToken::Forged)?;
        let end = bytes.len().checked_sub(hmac::HMAC_SHA256.digest_algorithm().output_len());
        let (said, mac) = bytes.split_at(end.ok_or(BadLocalToken::Forged)?);
        let mut signed = PURPOSE.to_vec();
        signed.extend_from_slice(said);
        hmac::verify(&self.key, &signed, mac).map_err(|_| BadLocalToken::Forged)?;
        let (end, holder, place) = parts(said).ok_or(BadLocalToken::Forged)?;
        if place != registry.as_bytes() {
            return Err(BadLocalToken::Elsewhere);
        }
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // One of a clock that was ahead must not be good until then; one that was set back a little breaks no pull.
        let longest = now.saturating_add(2 * LOCAL_TOKEN_LIFE.as_secs());
        if now < end && end < longest { Ok(holder) } else { Err(BadLocalToken::Expired) }
    }

    /// The local token that an `Authorization` header carries, whether it is good or not: such a header is
    /// never forwarded.
    #[must_use]
    pub fn within(authorization: &Authorization) -> Option<&str> {
        authorization.bearer().filter(|token| token.starts_with(PREFIX))
    }

    /// The body of the answer that hands a token out (distribution-spec, "Token Response Fields").
    #[must_use]
    pub fn answer(token: &str, now: SystemTime) -> String {
        let issued = humantime::format_rfc3339_seconds(now.max(SystemTime::UNIX_EPOCH)).to_string();
        let life = LOCAL_TOKEN_LIFE.as_secs();
        serde_json::json!({"token": token, "access_token": token, "expires_in": life, "issued_at": issued}).to_string()
    }

    /// The challenge that sends a client here for a token. `base` is the scheme and the host by which it reaches us.
    #[must_use]
    pub fn challenge(base: &str, scopes: Vec<String>) -> Bearer {
        let host = base.split_once("://").map_or(base, |(_, host)| host);
        Bearer { realm: format!("{base}{LOCAL_TOKEN_PATH}"), service: Some(host.to_owned()), scopes, error: None }
    }

    fn mac(&self, said: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(PURPOSE);
        mac.update(said);
        mac.sign()
    }
}

fn parts(said: &[u8]) -> Option<(u64, Holder, &[u8])> {
    let (end, rest) = said.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    let (holder, registry) = match kind {
        0 => (Holder::Nobody, rest),
        1 => rest.split_first_chunk::<32>().map(|(principal, rest)| (Holder::Known(*principal), rest))?,
        _ => return None,
    };
    Some((u64::from_be_bytes(*end), holder, registry))
}

/// Written beside its place and moved there whole: a crash leaves no short key.
fn create(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = file.with_extension("new");
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    fs::rename(&staged, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn tokens(byte: u8) -> LocalTokens {
        LocalTokens::of_key(&[byte; KEY_BYTES])
    }

    #[test]
    fn a_token_stands_for_its_holder_at_its_registry_until_its_end() {
        let tokens = tokens(1);
        for holder in [Holder::Nobody, Holder::Known([7; 32])] {
            let token = tokens.mint("quay.io", holder, now());
            let at = |seconds| tokens.validate("quay.io", &token, now() + Duration::from_secs(seconds));
            assert_eq!((at(0), at(299), at(300)), (Ok(holder), Ok(holder), Err(BadLocalToken::Expired)));
            assert_eq!(tokens.validate("quay.io.evil", &token, now()), Err(BadLocalToken::Elsewhere));
            assert_eq!(self::tokens(2).validate("quay.io", &token, now()), Err(BadLocalToken::Forged));
        }
    }

    #[test]
    fn a_token_of_a_clock_that_was_ahead_is_not_good_until_then() {
        let tokens = tokens(1);
        for (ahead, is_good) in [(0, true), (60, true), (299, true), (300, false), (365 * 86_400, false)] {
            let token = tokens.mint("quay.io", Holder::Nobody, now() + Duration::from_secs(ahead));
            assert_eq!(tokens.validate("quay.io", &token, now()).is_ok(), is_good, "{ahead} s");
        }
    }

    #[test]
    fn no_holder_can_be_had_by_moving_bytes_between_holder_and_registry() {
        let tokens = tokens(1);
        let token = tokens.mint("quay.io", Holder::Known([b'a'; 32]), now());
        let long = format!("{}quay.io", "a".repeat(32));
        assert_eq!(tokens.validate(&long, &token, now()), Err(BadLocalToken::Elsewhere));
    }

    #[test]
    fn a_local_token_is_known_by_its_first_letters() {
        let token = tokens(1).mint("quay.io", Holder::Nobody, now());
        let header = |text: String| Authorization::parse(text.as_bytes());
        assert_eq!(LocalTokens::within(&header(format!("bearer {token}"))), Some(token.as_str()));
        assert_eq!(LocalTokens::within(&header(format!("Bearer {PREFIX}broken"))), Some(&*format!("{PREFIX}broken")));
        for other in ["Bearer eyJhbGciOi", "Basic dTpw", "x"] {
            assert_eq!(LocalTokens::within(&header(other.to_owned())), None, "{other}");
        }
    }

    #[test]
    fn clients_are_told_where_to_get_one_and_for_how_long() {
        let told = LocalTokens::challenge("http://r.example.com:5000", vec!["repository:a:pull".into()]);
        assert_eq!(told.realm, "http://r.example.com:5000/v2/_pullthrough/token");
        assert_eq!(told.service.as_deref(), Some("r.example.com:5000"));
        let answer: serde_json::Value = serde_json::from_str(&LocalTokens::answer("t", now())).unwrap();
        assert_eq!((&answer["token"], &answer["expires_in"]), (&"t".into(), &300.into()));
        assert_eq!(answer["issued_at"], "2027-01-15T08:00:00Z");
    }

    #[test]
    fn the_key_survives_a_restart_and_is_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("local-token.key");
        fs::write(file.with_extension("new"), "left by a crash").unwrap();
        let token = LocalTokens::open(&file).unwrap().mint("quay.io", Holder::Nobody, now());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(LocalTokens::open(&file).unwrap().validate("quay.io", &token, now()).is_ok());
        assert!(!file.with_extension("new").exists());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(LocalTokens::open(&file), Err(KeyError::Open(_))));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "short").unwrap();
        assert!(matches!(LocalTokens::open(&file), Err(KeyError::Length(_))));
        assert!(matches!(LocalTokens::open(&folder.path().join("none/key")), Err(KeyError::File(..))));
    }

    proptest! {
        #[test]
        fn a_changed_token_is_worth_nothing(at in 0_usize..200, bit in 0_u8..8, registry in "[a-z.]{1,20}") {
            let tokens = tokens(1);
            let token = tokens.mint(&registry, Holder::Known([7; 32]), now());
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&token[PREFIX.len()..]).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let changed = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
            prop_assert_eq!(tokens.validate(&registry, &changed, now()), Err(BadLocalToken::Forged));
        }

        #[test]
        fn no_token_panics_the_reader(text in ".{0,60}", tail in "[A-Za-z0-9_-]{0,120}") {
            let tokens = tokens(1);
            for token in [text, format!("{PREFIX}{tail}")] {
                prop_assert_eq!(tokens.validate("a", &token, now()), Err(BadLocalToken::Forged));
            }
        }
    }
}
