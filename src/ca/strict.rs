//! Names what strict verifiers refuse in a root, although others accept it.
//!
//! The rules are those of RFC 5280 that OpenSSL checks under `X509_V_FLAG_X509_STRICT`, which Python sets from 3.13 on, and
//! two that stop many clients. A root that other tools made may break them; one that pullthrough made does not.

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

/// OpenSSL's default level takes no shorter one.
const RSA_BITS: usize = 2048;

/// What is wrong with a root's certificate; empty where nothing is.
pub(super) fn faults(x509: &X509Certificate<'_>) -> Vec<&'static str> {
    let constraints = x509.basic_constraints().ok().flatten();
    let key_identifier = x509.get_extension_unique(&OID_X509_EXT_SUBJECT_KEY_IDENTIFIER).ok().flatten();
    let authority = x509.get_extension_unique(&OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER).ok().flatten();
    let is_weak = matches!(x509.public_key().parsed(), Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS);
    let table = [
        (x509.version() != X509Version::V3, "it is not of version 3"),
        (constraints.is_some_and(|extension| !extension.critical), "its basicConstraints are not critical"),
        (!matches!(x509.key_usage(), Ok(Some(_))), "it has no keyUsage with keyCertSign"),
        (key_identifier.is_none(), "it has no subjectKeyIdentifier"),
        (key_identifier.is_some_and(|extension| extension.critical), "its subjectKeyIdentifier is critical"),
        (authority.is_some_and(|extension| extension.critical), "its authorityKeyIdentifier is critical"),
        (x509.subject().iter().next().is_none(), "it has no subject"),
        (x509.issuer().iter().next().is_none(), "it has no issuer"),
        (x509.raw_serial().first().is_some_and(|byte| byte & 0x80 != 0), "its serial number is negative"),
        (is_weak, "its RSA key has less than 2,048 bits"),
    ];
    table.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, fault)| fault).collect()
}
