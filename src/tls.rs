//! Certificates and keys of the listeners, and certificate authorities for federation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// What is wrong and what to do.
pub(crate) type Wrong = (String, String);

/// The certificates of a PEM file; at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let bytes = std::fs::read(path).map_err(|error| {
        (
            format!("{} can't be read: {error}", path.display()),
            "check the path, and that the server's user may read it".to_owned(),
        )
    })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err((
            format!("{} holds no PEM certificate", path.display()),
            "it must hold blocks that begin with -----BEGIN CERTIFICATE-----".to_owned(),
        )),
    }
}

/// Reads a certificate chain with its key. The error names the key of the setting that is wrong.
fn read_pair(
    certificate: &Path,
    key: &Path,
) -> Result<CertifiedKey, (&'static str, String, String)> {
    let chain =
        read_certificates(certificate).map_err(|(what, remedy)| ("certificate", what, remedy))?;
    let bytes = std::fs::read(key).map_err(|error| {
        (
            "key",
            format!("{} can't be read: {error}", key.display()),
            "check the path, and that the server's user may read it".to_owned(),
        )
    })?;
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        (
            "key",
            format!("{} holds no PEM private key", key.display()),
            "it must hold a block such as -----BEGIN PRIVATE KEY-----, without a passphrase"
                .to_owned(),
        )
    })?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, der, &provider).map_err(|error| {
        (
            "key",
            format!(
                "the key doesn't go with the certificate, or its kind is not supported ({error})"
            ),
            "name the key for which the certificate was issued (RSA, ECDSA or Ed25519)".to_owned(),
        )
    })
}

/// Checks that a listener's certificate and key can be used together.
pub(crate) fn check(certificate: &Path, key: &Path) -> Result<(), (&'static str, String, String)> {
    read_pair(certificate, key).map(|_| ())
}

/// A certificate that can be read again while connections come in.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain_path: PathBuf,
    key_path: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the files.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Arc<Self>> {
        let pair = read_pair(certificate, key).map_err(|(_, what, _)| anyhow::anyhow!(what))?;
        Ok(Arc::new(Self {
            chain_path: certificate.to_owned(),
            key_path: key.to_owned(),
            current: RwLock::new(Arc::new(pair)),
        }))
    }

    /// Reads the files again; after an error the old certificate stays.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let pair = read_pair(&self.chain_path, &self.key_path)
            .map_err(|(_, what, _)| anyhow::anyhow!(what))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

/// The TLS side of a listener: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
pub(crate) fn acceptor(certificate: Arc<Certificate>) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS set-up")?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}
