//! Decrypts the key of a CA that docker-registry-proxy made, so that its nodes need not trust a new root.
//!
//! That program encrypts its root's key with a passphrase from its own source, which is not a secret: only the mode of
//! the file protects the key. OpenSSL 1 writes PKCS#1 under a digest of the passphrase
//! (PEM_read_bio(3), "PEM ENCRYPTION FORMAT"), OpenSSL 3 writes PKCS#8 (RFC 8018, PBES2); both by triple DES.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use des::TdesEde3;
use des::cipher::{Array, BlockCipherDecrypt, KeyInit};
use md5::{Digest, Md5};
use x509_parser::der_parser::ber::BerObject;
use x509_parser::der_parser::der::parse_der;
use zeroize::Zeroizing;

/// The passphrase in docker-registry-proxy's `create_ca_cert.sh`.
const PASSPHRASE: &[u8] = b"foobar";
const PKCS1: (&str, &str) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
const PKCS8: (&str, &str) = ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----END ENCRYPTED PRIVATE KEY-----");
/// Far above OpenSSL's 2,048. A file with more rounds only wastes our time.
const MOST_ROUNDS: u32 = 10_000_000;
const BLOCK: usize = 8;
const KEY: usize = 24;

/// The DER of the private key in `pem`; `None` if it is not encrypted in this form or with this passphrase.
pub(super) fn open(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    legacy(pem).or_else(|| pbes2(pem))
}

fn legacy(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (head, body) = between(pem, PKCS1)?.split_once("\n\n")?;
    let iv = head.lines().find_map(|line| line.trim().strip_prefix("DEK-Info: DES-EDE3-CBC,"))?;
    let iv: [u8; BLOCK] = hex(iv.trim())?.try_into().ok()?;
    let first = Md5::new().chain_update(PASSPHRASE).chain_update(iv).finalize();
    let second = Md5::new().chain_update(first).chain_update(PASSPHRASE).chain_update(iv).finalize();
    let mut key = Zeroizing::new([0; KEY]);
    key[..16].copy_from_slice(&first);
    key[16..].copy_from_slice(&second[..KEY - 16]);
    decrypt(&key, iv, base64(body)?)
}

/// EncryptedPrivateKeyInfo (RFC 5958, 3) with PBES2, PBKDF2 by HMAC-SHA-256 and DES-EDE3-CBC.
fn pbes2(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let der = base64(between(pem, PKCS8)?)?;
    let (_, info) = parse_der(&der).ok()?;
    let [scheme, sealed] = info.as_sequence().ok()?.as_slice() else { return None };
    let [kind, parameters] = scheme.as_sequence().ok()?.as_slice() else { return None };
    let [derivation, encryption] = parameters.as_sequence().ok()?.as_slice() else { return None };
    let [function, parameters] = derivation.as_sequence().ok()?.as_slice() else { return None };
    let [des_ede3, iv] = encryption.as_sequence().ok()?.as_slice() else { return None };
    let [salt, rounds, .., digest] = parameters.as_sequence().ok()?.as_slice() else { return None };
    let [hmac_sha256, ..] = digest.as_sequence().ok()?.as_slice() else { return None };
    let known = is(kind, "1.2.840.113549.1.5.13")
        && is(function, "1.2.840.113549.1.5.12")
        && is(hmac_sha256, "1.2.840.113549.2.9")
        && is(des_ede3, "1.2.840.113549.3.7");
    let rounds = rounds.as_u32().ok().filter(|rounds| known && *rounds <= MOST_ROUNDS).and_then(NonZeroU32::new)?;
    let mut key = Zeroizing::new([0; KEY]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt.as_slice().ok()?, PASSPHRASE, key.as_mut());
    let iv = iv.as_slice().ok()?.try_into().ok()?;
    decrypt(&key, iv, Zeroizing::new(sealed.as_slice().ok()?.to_vec()))
}

fn is(object: &BerObject<'_>, identifier: &str) -> bool {
    object.as_oid().is_ok_and(|oid| oid.to_id_string() == identifier)
}

/// Decrypts CBC and removes the padding.
fn decrypt(key: &[u8; KEY], iv: [u8; BLOCK], mut bytes: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = TdesEde3::new(&Array::from(*key));
    let mut before = iv;
    for block in bytes.chunks_exact_mut(BLOCK) {
        let sealed: [u8; BLOCK] = (&*block).try_into().ok()?;
        let mut opened = Array::from(sealed);
        cipher.decrypt_block(&mut opened);
        for (byte, (opened, before)) in block.iter_mut().zip(opened.iter().zip(before)) {
            *byte = opened ^ before;
        }
        before = sealed;
    }
    let padding = usize::from(*bytes.last()?);
    let kept = bytes.len().checked_sub(padding).filter(|_| (1..=BLOCK).contains(&padding))?;
    if bytes[kept..].iter().any(|byte| usize::from(*byte) != padding) || !bytes.len().is_multiple_of(BLOCK) {
        return None;
    }
    bytes.truncate(kept);
    Some(bytes)
}

fn between<'a>(pem: &'a str, (begin, end): (&str, &str)) -> Option<&'a str> {
    let (_, rest) = pem.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    use ::base64::Engine as _;
    let text: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
    ::base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    /// Made by `openssl genrsa -des3 -passout pass:foobar -traditional 2048` and without `-traditional`.
    const TRADITIONAL: &str = include_str!("passphrase/traditional.pem");
    const MODERN: &str = include_str!("passphrase/modern.pem");

    #[test]
    fn both_forms_of_the_key_are_opened() {
        for pem in [TRADITIONAL, MODERN] {
            let der = open(pem).unwrap();
            assert!(KeyPair::try_from(der.as_slice()).is_ok());
        }
    }

    #[test]
    fn what_is_damaged_or_something_else_is_not_opened_and_never_panics() {
        for pem in [TRADITIONAL, MODERN] {
            for at in 0..pem.len() {
                let _ = open(&pem[..at]);
                let mut bytes = pem.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let _ = open(&String::from_utf8(bytes).unwrap());
            }
        }
        let plain = KeyPair::generate().unwrap().serialize_pem();
        for text in ["", "-----BEGIN RSA PRIVATE KEY-----\n\n-----END RSA PRIVATE KEY-----", &plain] {
            assert!(open(text).is_none());
        }
    }
}
