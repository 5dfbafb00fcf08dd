//! A certificate from an authority that was handed to us.

use anyhow::{Context as _, bail};
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_RSA_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A new key and a certificate for it, both PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Issues a certificate for `name` (a host name or an IP address) from the authority, whose
/// certificate and key are PEM.
pub(crate) fn issue(name: &str, ca_certificate: &str, ca_key: &str) -> anyhow::Result<Issued> {
    let issuer = Issuer::from_ca_cert_pem(ca_certificate, authority_key(ca_key)?)
        .context("the authority's certificate can't be used")?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Authorities of test suites come with RSA keys in their old form (PKCS #1), which our TLS library
/// signs with only after they were put into the new one.
fn authority_key(pem: &str) -> anyhow::Result<KeyPair> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .context("the authority's key is no PEM private key")?;
    Ok(match key {
        PrivateKeyDer::Pkcs1(key) => {
            let key = PrivatePkcs8KeyDer::from(pkcs8(key.secret_pkcs1_der()));
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_RSA_SHA256)?
        }
        PrivateKeyDer::Pkcs8(key) => KeyPair::try_from(&key)?,
        _ => bail!("the authority's key is of a kind that is not supported"),
    })
}

/// An RSA key as PKCS #8 (RFC 5208): version, algorithm, and the PKCS #1 form as octets.
fn pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    const VERSION: &[u8] = &[0x02, 0x01, 0x00];
    const RSA_ENCRYPTION: &[u8] = &[
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    der(0x30, &[VERSION, RSA_ENCRYPTION, &der(0x04, pkcs1)].concat())
}

/// Tag, length, value.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match significant {
        [] => out.push(0),
        [short @ 0..0x80] => out.push(*short),
        // At most eight bytes.
        #[expect(clippy::cast_possible_truncation, reason = "the length of a length")]
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    #[test]
    fn lengths_are_short_where_they_fit() {
        assert_eq!(der(4, &[]), [4, 0]);
        assert_eq!(der(4, &[7]), [4, 1, 7]);
        assert_eq!(der(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(der(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(der(4, &[0; 1000])[..4], [4, 0x82, 3, 0xe8]);
    }

    #[test]
    fn a_certificate_is_for_its_name_and_other_keys_are_refused() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issued = issue("hs1", &ca, &key.serialize_pem()).unwrap();
        assert!(issued.certificate.starts_with("-----BEGIN CERTIFICATE"));
        assert!(KeyPair::from_pem(&issued.key).is_ok());
        assert!(issue("hs1", &ca, "nothing").is_err());
        assert!(issue("hs1", "nothing", &key.serialize_pem()).is_err());
    }
}
