//! Orders the ciphers by their speed on this machine's processor.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The provider of cryptography, with the fastest suites for this processor first: AES-GCM if it has instructions for
/// AES; otherwise ChaCha20, since AES then costs several times as much.
#[must_use]
pub fn crypto() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    order(&mut provider.cipher_suites, has_aes());
    Arc::new(provider)
}

/// Whether the processor has instructions for AES.
#[must_use]
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

fn order(suites: &mut [SupportedCipherSuite], has_aes: bool) {
    // A stable sort: equal suites keep the order of the library.
    suites.sort_by_key(|suite| format!("{:?}", suite.suite()).contains("CHACHA20") == has_aes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_suites_are_those_that_the_processor_is_quick_at() {
        for (has_aes, first) in [(true, "AES"), (false, "CHACHA20")] {
            let mut suites = aws_lc_rs::default_provider().cipher_suites;
            let all = suites.len();
            order(&mut suites, has_aes);
            let names: Vec<String> = suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
            let change = names.iter().position(|name| !name.contains(first)).unwrap();
            assert!(change > 0 && names[change..].iter().all(|name| !name.contains(first)), "{names:?}");
            assert_eq!(names.len(), all);
        }
    }
}
