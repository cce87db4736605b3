//! What TLS is made of, for every connection that this process opens.

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc; on a processor with VAES but without AVX-512, such as Zen 3, the ciphers are ring's: AES-GCM of aws-lc knows no VAES
/// there and is half as quick (docs/adr/0031-two-sets-of-ciphers.md).
pub(super) fn provider() -> CryptoProvider {
    let provider = aws_lc_rs::default_provider();
    #[cfg(all(feature = "server", target_arch = "x86_64"))]
    if is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && !is_x86_feature_detected!("avx512f")
    {
        return with_other_ciphers(provider);
    }
    provider
}

#[cfg(all(feature = "server", target_arch = "x86_64"))]
fn with_other_ciphers(provider: CryptoProvider) -> CryptoProvider {
    let cipher_suites = rustls::crypto::ring::DEFAULT_CIPHER_SUITES.to_vec();
    CryptoProvider { cipher_suites, ..provider }
}

/// For a library that asks rustls for the process's own: with two to choose from, rustls chooses none and panics.
#[cfg(feature = "server")]
pub(super) fn provide() {
    // An error says that there is one already.
    let _ = provider().install_default();
}

#[cfg(test)]
#[cfg(all(feature = "server", target_arch = "x86_64"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
    };

    use super::*;

    /// 100,000 bytes from a server that speaks `suite` of aws-lc alone to a client with the other ciphers.
    fn received(suite: SupportedCipherSuite) -> Vec<u8> {
        let curve = match suite.suite().as_str() {
            Some(name) if name.contains("_RSA_") => &rcgen::PKCS_RSA_SHA256,
            _ => &rcgen::PKCS_ECDSA_P256_SHA256,
        };
        let key = KeyPair::generate_for(curve).unwrap();
        let certificate =
            CertificateParams::new(vec!["u.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = Arc::new(with_other_ciphers(aws_lc_rs::default_provider()));
        let client = ClientConfig::builder_with_provider(client)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        let server = ServerConfig::builder_with_provider(Arc::new(server))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let name = ServerName::try_from("u.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        server.set_buffer_limit(None);
        server.writer().write_all(&vec![b'x'; 100_000]).unwrap();
        server.send_close_notify();
        let mut received = Vec::new();
        // A round trip for each flight of TLS 1.2, and more than it has.
        for _ in 0..5 {
            let mut there = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            let mut there = there.as_slice();
            while !there.is_empty() {
                server.read_tls(&mut there).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut here = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut here).unwrap();
            }
            let mut here = here.as_slice();
            while !here.is_empty() {
                client.read_tls(&mut here).unwrap();
                client.process_new_packets().unwrap();
                let _ = client.reader().read_to_end(&mut received);
            }
        }
        assert_eq!(client.negotiated_cipher_suite().map(|one| one.suite()), Some(suite.suite()));
        received
    }

    #[test]
    fn the_other_ciphers_are_the_same_ones_and_understand_everybody() {
        let own = aws_lc_rs::default_provider();
        let other = with_other_ciphers(own.clone());
        let names = |provider: &CryptoProvider| -> Vec<_> {
            provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect()
        };
        assert_eq!(names(&own), names(&other));
        assert_eq!(own.kx_groups.len(), other.kx_groups.len());
        for suite in own.cipher_suites {
            assert_eq!(received(suite), vec![b'x'; 100_000], "{:?}", suite.suite());
        }
    }
}
