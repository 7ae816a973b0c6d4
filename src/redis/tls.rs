//! TLS from files: our own authorities, and a client certificate where the servers ask for one.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::expiry;
use crate::config::TlsFiles;

/// Reads the files anew, so that a renewed certificate is used from the next connection on.
///
/// The error says which file is wrong, and how.
pub(super) fn client_config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca_file)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", files.ca_file.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert_file, key_file)) = &files.cert_key else { return Ok(builder.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| format!("{}: {error}", key_file.display()))?;
    builder
        .with_client_auth_cert(certificates(cert_file)?, key)
        .map_err(|error| format!("{} with {}: {error}", cert_file.display(), key_file.display()))
}

/// When the first of the certificates in a file (PEM) expires.
///
/// The error says what is wrong with the file.
pub fn certificate_expiry(file: &Path) -> Result<SystemTime, String> {
    let unreadable = || format!("{}: holds something that is no certificate", file.display());
    let expiries: Option<Vec<SystemTime>> =
        certificates(file)?.iter().map(|certificate| expiry::of_certificate(certificate)).collect();
    expiries.and_then(|expiries| expiries.into_iter().min()).ok_or_else(unreadable)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(|error| at(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| at(&error))?;
    if certificates.is_empty() { Err(at(&"holds no certificate")) } else { Ok(certificates) }
}
