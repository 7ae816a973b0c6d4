//! A certificate authority of the test's own, and one certificate that it signed.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use redis::{ClientTlsConfig, TlsCertificates};

/// The PEM files of a cluster with TLS. One certificate serves nodes and clients alike.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// The certificate, valid for 127.0.0.1, `localhost` and the announced addresses.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    ca_key: PathBuf,
}

/// The authority's own certificate, but for its signature.
fn authority() -> CertificateParams {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names, no wrong names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // The two differ in name: OpenSSL takes a certificate that is called like its issuer for a self-signed one.
    ca.distinguished_name.push(DnType::CommonName, "authority of a test");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca
}

fn write(path: &Path, pem: String) {
    fs::write(path, pem).expect("the directory is writable");
}

impl TlsFiles {
    /// Makes new ones in a directory, valid for these names and IPs.
    pub(crate) fn create(directory: &Path, names: Vec<String>) -> Self {
        let ca_key = KeyPair::generate().expect("a key can be generated");
        let ca_cert = authority().self_signed(&ca_key).expect("the authority can be signed");
        let files = Self {
            ca: directory.join("ca.pem"),
            cert: directory.join("cert.pem"),
            key: directory.join("key.pem"),
            ca_key: directory.join("ca.key.pem"),
        };
        write(&files.ca, ca_cert.pem());
        write(&files.ca_key, ca_key.serialize_pem());
        files.sign(names, None, &files.cert, &files.key);
        files
    }

    /// Writes another certificate of the same authority, for a client, and its key; it expires when this year begins.
    pub(crate) fn sign_client(&self, expires: i32, cert: &Path, key: &Path) {
        self.sign(Vec::new(), Some(expires), cert, key);
    }

    /// The same for a server at 127.0.0.1.
    pub(crate) fn sign_server(&self, expires: i32, cert: &Path, key: &Path) {
        self.sign(vec!["127.0.0.1".to_owned()], Some(expires), cert, key);
    }

    fn sign(&self, names: Vec<String>, expires: Option<i32>, cert: &Path, key: &Path) {
        let ca_key = fs::read_to_string(&self.ca_key).expect("the authority's key is there");
        let issuer = Issuer::new(authority(), KeyPair::from_pem(&ca_key).expect("it is a key"));
        let mut leaf = CertificateParams::new(names).expect("the names are host names or IPs");
        leaf.distinguished_name.push(DnType::CommonName, "node of a test");
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(year) = expires {
            leaf.not_after = date_time_ymd(year, 1, 1);
        }
        let leaf_key = KeyPair::generate().expect("a key can be generated");
        write(cert, leaf.signed_by(&leaf_key, &issuer).expect("the certificate can be signed").pem());
        write(key, leaf_key.serialize_pem());
    }

    /// The arguments with which a server speaks TLS on this port, and nothing else on any.
    pub(super) fn server_args(&self, port: u16) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let pairs = [
            ("--port", "0".to_owned()),
            ("--tls-port", port.to_string()),
            ("--tls-cluster", "yes".to_owned()),
            ("--tls-replication", "yes".to_owned()),
            ("--tls-ca-cert-file", path(&self.ca)),
            ("--tls-cert-file", path(&self.cert)),
            ("--tls-key-file", path(&self.key)),
            ("--tls-auth-clients", "optional".to_owned()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// What the `redis` crate wants.
    pub(super) fn for_client(&self) -> TlsCertificates {
        let read = |path: &Path| fs::read(path).expect("the certificate files are there");
        TlsCertificates {
            client_tls: Some(ClientTlsConfig { client_cert: read(&self.cert), client_key: read(&self.key) }),
            root_cert: Some(read(&self.ca)),
        }
    }
}
