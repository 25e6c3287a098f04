//! Signs the three kinds of certificates, root, issuing and leaf, each by its profile. It touches no files.
//!
//! All keys are ECDSA P-256. Everything is backdated by a day, since clocks differ, but not to before its issuer. The subject of a leaf names no
//! host: only the SAN counts (RFC 9525), and OpenSSL and GnuTLS judge a common name by the DNS constraints
//! where the SAN holds an address only.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::Error;
use super::certificate::Certificate;
use super::constraints::Constraints;
use crate::oci::Host;

pub(super) const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// Long, since a sealed CA cannot renew it; nodes trust the root for longer.
const ISSUING_LIFE: Duration = Duration::from_secs(5 * 365 * 86_400);
/// The issuing certificate is minted again when less than this is left.
pub(super) const ISSUING_RESERVE: Duration = Duration::from_secs(365 * 86_400);

/// A certificate in PEM and its key.
pub(super) struct Minted {
    pub(super) pem: String,
    pub(super) key: KeyPair,
}

/// Makes a new root for this machine. Its name ends in a piece of its key's identifier, so that two roots in one
/// trust store never share a name.
pub(super) fn root(now: SystemTime) -> Result<Minted, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params("CA", &key, 1);
    (params.not_before, params.not_after) = (at(now - DAY)?, at(now + ROOT_LIFE)?);
    Ok(Minted { pem: params.self_signed(&key)?.pem(), key })
}

/// Makes a new issuing certificate under `root`, within whose validity it stays: some clients want them nested.
pub(super) fn issuing(
    root: &Certificate,
    root_key: &KeyPair,
    constraints: &Constraints,
    now: SystemTime,
) -> Result<Minted, Error> {
    let issuer = Issuer::from_ca_cert_der(&root.der, root_key)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params("issuing CA", &key, 0);
    params.not_before = at(root.from.max(now - DAY))?;
    params.not_after = at(root.until.min(now + ISSUING_LIFE))?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(constraints.to_extension());
    Ok(Minted { pem: params.signed_by(&key, &issuer)?.pem(), key })
}

/// Makes a new leaf with its own key, for `host` only.
pub(super) fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    host: &Host,
    from: SystemTime,
    until: SystemTime,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "pullthrough");
    params.subject_alt_names = vec![match host {
        Host::Name(name) => SanType::DnsName(name.as_ref().try_into()?),
        Host::Address(address) => SanType::IpAddress(*address),
    }];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (at(from)?, at(until)?);
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.into(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn ca_params(role: &str, key: &KeyPair, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    // A common name holds 64 characters (RFC 5280, ub-common-name).
    let machine: String = crate::host::hostname().unwrap_or_else(|| "unnamed".to_owned()).chars().take(30).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "pullthrough");
    params.distinguished_name.push(DnType::CommonName, format!("pullthrough {role} ({machine}) {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn at(moment: SystemTime) -> Result<OffsetDateTime, Error> {
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Clock(moment))
}
