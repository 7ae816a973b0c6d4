//! TLS from files (PEM): whom we trust and what we show, as a client and as a server.
//!
//! What is here reads the files anew at each call and keeps nothing; who calls decides when. An error says which file is wrong,
//! and how. What is not here: connections.

mod expiry;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{ServerTlsFiles, TlsFiles};

/// The one protocol that our own listener speaks.
const HTTP_1: &[u8] = b"http/1.1";

/// What a connection of ours to a server needs: read at each, so that a renewed certificate is used from the next one on.
pub fn client_config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca_file)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", files.ca_file.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert_file, key_file)) = &files.cert_key else { return Ok(builder.with_no_client_auth()) };
    builder
        .with_client_auth_cert(certificates(cert_file)?, private_key(key_file)?)
        .map_err(|error| pair_fault(cert_file, key_file, &error))
}

/// What is in the text of a fault of a certificate of the first version of X.509.
pub const VERSION_1: &str = "UnsupportedCertVersion";
/// What is wrong with such a certificate, which tools make where no extension is asked for.
pub const VERSION_1_TOLD: &str =
    "is one of X.509 version 1, without extensions; make one of version 3 (`openssl x509 -req -extfile FILE`)";

/// What is wrong with a certificate and its key.
fn pair_fault(cert_file: &Path, key_file: &Path, error: &rustls::Error) -> String {
    let text = error.to_string();
    if text.contains(VERSION_1) {
        return format!("{} {VERSION_1_TOLD}", cert_file.display());
    }
    format!("{} with {}: {text}", cert_file.display(), key_file.display())
}

/// What our own listener needs. A certificate and a key that are not of one pair are an error.
pub fn server_config(files: &ServerTlsFiles) -> Result<ServerConfig, String> {
    let ServerTlsFiles { cert_file, key_file } = files;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates(cert_file)?, private_key(key_file)?)
        .map_err(|error| pair_fault(cert_file, key_file, &error))?;
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    Ok(config)
}

/// The cryptography that everything uses: that of the client library.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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

/// The certificates in a file; at least one.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(|error| at(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| at(&error))?;
    if certificates.is_empty() { Err(at(&"holds no certificate")) } else { Ok(certificates) }
}

/// The private key in a file.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{}: {error}", file.display()))
}
