//! How stores and scanners are reached.

use std::io;
use std::sync::Arc;

/// The beginnings of a client with rustls and ring, and the roots of the system. No proxies, no redirects: it is for addresses
/// of the operator's own.
pub(crate) fn client() -> io::Result<reqwest::ClientBuilder> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls);
    let client = client.redirect(reqwest::redirect::Policy::none());
    Ok(client.no_proxy())
}
