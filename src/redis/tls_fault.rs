//! What went wrong with TLS towards a server, in words: what is wrong with which side's certificate, and what to set.
//!
//! The client library hands a fault on as debug text only (`Custom { kind: InvalidData, error: InvalidCertificate(…) }`), so
//! the words in it are what there is to go by. One that is not known is told as it is.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::clock::rfc3339;
use crate::config::TlsFiles;
use crate::tls::{VERSION_1, VERSION_1_TOLD};

/// What a server that says nothing may be. A Redis that is greeted with TLS where it speaks plain text waits for the end of
/// the line.
pub(super) const SILENT: &str =
    "; it hangs, or this is its plain-text port, where no TLS is spoken (its tls-port is the other)";

/// What a server that ends a connection without TLS may be.
pub(super) fn of_plain_text(table: &'static str) -> String {
    format!("; if this is its TLS port, set {}", setting(table, "ca_file"))
}

/// How a connection would have been secured.
pub(super) struct Wished<'a> {
    /// The table of the configuration that says so: `cluster.tls` or `lease.tls`.
    pub(super) table: &'static str,
    /// Its files.
    pub(super) files: &'a TlsFiles,
    /// The name that the server's certificate had to be for.
    pub(super) name: &'a str,
}

/// What is wrong, in words; `None` when the fault is not one of TLS.
pub(super) fn told(fault: &str, wished: &Wished<'_>) -> Option<String> {
    let Wished { table, files, name } = wished;
    let key = |name: &str| setting(table, name);
    let ca_file = files.ca_file.display();
    if let Some(certificate) = argument(fault, "InvalidCertificate(") {
        let kind = certificate.split([' ', '(']).next().unwrap_or(certificate);
        return Some(match kind {
            "UnknownIssuer" | "BadSignature" => format!(
                "its certificate is signed by no authority in {ca_file} ({}); put the authority's certificate there",
                key("ca_file")
            ),
            "NotValidForNameContext" if names(certificate).is_empty() => format!(
                "its certificate has no subjectAltName, and so is for no name or address at all (a common name does not count); \
                 make one that has {name} there, or a name that {} is set to",
                key("server_name")
            ),
            "NotValidForName" | "NotValidForNameContext" => {
                let others = names(certificate);
                let others = if others.is_empty() { "other names".to_owned() } else { others.join(", ") };
                format!(
                    "its certificate is for {others}, and not for {name}; set {} to a name that the certificates have, or \
                     have the nodes announce theirs",
                    key("server_name")
                )
            }
            "Expired" | "ExpiredContext" => {
                let since = expired_at(certificate).map_or_else(String::new, |since| format!(" at {since}"));
                format!("its certificate expired{since}; renew it there")
            }
            "NotValidYet" | "NotValidYetContext" => {
                "its certificate is not valid yet; one of the two clocks is wrong, or it is used too early".to_owned()
            }
            "InvalidPurpose" | "InvalidPurposeContext" => {
                "its certificate is not one for servers (extended key usage serverAuth)".to_owned()
            }
            _ if certificate.contains(VERSION_1) => format!("its certificate {VERSION_1_TOLD}"),
            other => format!("its certificate cannot be used: {other}"),
        });
    }
    if let Some(alert) = argument(fault, "AlertReceived(") {
        let shown: Option<&PathBuf> = files.cert_key.as_ref().map(|(cert, _)| cert);
        let why = match alert {
            "ProtocolVersion" => return Some("it speaks neither TLS 1.2 nor TLS 1.3".to_owned()),
            "UnknownCA" => "it is signed by no authority that the server trusts (tls-ca-cert-file)",
            "CertificateExpired" => "it has expired",
            "CertificateRevoked" => "it was revoked",
            "UnsupportedCertificate" => "it is not one for clients (extended key usage clientAuth)",
            _ => "the server's log says why",
        };
        return Some(match shown {
            // Before TLS 1.3 a server has no word for it, and each says another one.
            None => format!(
                "it demands a certificate of ours; set {} and {} (it said: {alert})",
                key("cert_file"),
                key("key_file")
            ),
            Some(cert) => {
                let (cert, key) = (cert.display(), key("cert_file"));
                format!("it refuses our certificate {cert} ({key}): {why} (it said: {alert})")
            }
        });
    }
    let not_tls = ["InvalidContentType", "InvalidMessage", "UnexpectedEof", "tls handshake eof"];
    not_tls.iter().any(|word| fault.contains(word)).then(|| {
        format!(
            "no TLS is spoken at this port; it may be the plain-text one (the server's tls-port is the other), or {table} \
             is not wanted"
        )
    })
}

/// The key of the configuration, and the option of the command line where there is one.
fn setting(table: &str, key: &str) -> String {
    let option = match key {
        "ca_file" => "--tls-ca",
        "cert_file" => "--tls-cert",
        "key_file" => "--tls-key",
        _ => "--tls-server-name",
    };
    if table == "cluster.tls" { format!("{table}.{key} or {option}") } else { format!("{table}.{key}") }
}

/// What stands in the brackets that begin so, up to their end.
fn argument<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    let rest = text.split_once(begin)?.1;
    let mut depth = 1;
    let end = rest.char_indices().find(|(_, char)| {
        depth += match char {
            '(' | '{' | '[' => 1,
            ')' | '}' | ']' => -1,
            _ => 0,
        };
        depth == 0
    });
    Some(end.map_or(rest, |(at, _)| &rest[..at]))
}

/// The names that a certificate has: `presented: ["DnsName(\"a.example\")", "IpAddress(10.0.0.1)"]`.
fn names(certificate: &str) -> Vec<String> {
    let presented = certificate.split_once("presented: [").map_or("", |(_, rest)| rest);
    let of_kind = |kind: &'static str| presented.split(kind).skip(1);
    let name = |rest: &str| rest.split(')').next().unwrap_or_default().replace(['\\', '"'], "");
    of_kind("DnsName(").chain(of_kind("IpAddress(")).map(name).collect()
}

/// `not_after: UnixTime(1577836800)` as a date.
fn expired_at(certificate: &str) -> Option<String> {
    let seconds = argument(certificate.split_once("not_after: ")?.1, "UnixTime(")?;
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fault: &str, with_certificate: bool, expect: Option<&str>) {
        let cert_key = with_certificate.then(|| (PathBuf::from("/tls/cert.pem"), PathBuf::from("/tls/key.pem")));
        let files = TlsFiles { ca_file: PathBuf::from("/tls/ca.pem"), cert_key, server_name: None };
        let wished = Wished { table: "cluster.tls", files: &files, name: "10.0.0.1" };
        assert_eq!(told(fault, &wished).as_deref(), expect, "{fault}");
    }

    /// As rustls spells them: a newer version that spells them otherwise fails here.
    fn of_rustls(fault: rustls::Error) -> String {
        format!("{:?}", std::io::Error::new(std::io::ErrorKind::InvalidData, fault))
    }

    #[test]
    fn a_certificate_of_the_server_that_cannot_be_trusted_is_told_with_what_to_set() {
        use rustls::CertificateError;
        use rustls::pki_types::{ServerName, UnixTime};
        let of = |fault: CertificateError| of_rustls(rustls::Error::InvalidCertificate(fault));
        let unknown = "its certificate is signed by no authority in /tls/ca.pem (cluster.tls.ca_file or --tls-ca); put the \
                       authority's certificate there";
        check(&of(CertificateError::UnknownIssuer), false, Some(unknown));
        let expected = ServerName::try_from("10.0.0.1").unwrap();
        let presented = vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.2)".to_owned()];
        let other = "its certificate is for a.example, 10.0.0.2, and not for 10.0.0.1; set cluster.tls.server_name or --tls-server-name to \
                     a name that the certificates have, or have the nodes announce theirs";
        let context = CertificateError::NotValidForNameContext { expected: expected.clone(), presented };
        check(&of(context), false, Some(other));
        let none = "its certificate has no subjectAltName, and so is for no name or address at all (a common name does not count); \
                    make one that has 10.0.0.1 there, or a name that cluster.tls.server_name or --tls-server-name is set to";
        check(&of(CertificateError::NotValidForNameContext { expected, presented: Vec::new() }), false, Some(none));
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: at(1_600_000_000), not_after: at(1_577_836_800) };
        let told = "its certificate expired at 2020-01-01T00:00:00.000Z; renew it there";
        check(&of(expired), false, Some(told));
        check(&of(CertificateError::Revoked), false, Some("its certificate cannot be used: Revoked"));
        let old = "its certificate is one of X.509 version 1, without extensions; make one of version 3 (`openssl x509 -req \
                   -extfile FILE`)";
        // As its verifier spells it within an error of another kind.
        let fault =
            "Custom { kind: InvalidData, error: InvalidCertificate(Other(OtherError(UnsupportedCertVersion))) }";
        check(fault, false, Some(old));
    }

    #[test]
    fn a_server_that_demands_or_refuses_our_certificate_is_told_apart() {
        use rustls::AlertDescription;
        let of = |alert: AlertDescription| of_rustls(rustls::Error::AlertReceived(alert));
        let demands = "it demands a certificate of ours; set cluster.tls.cert_file or --tls-cert and cluster.tls.key_file or \
                       --tls-key (it said: CertificateRequired)";
        check(&of(AlertDescription::CertificateRequired), false, Some(demands));
        let refuses = "it refuses our certificate /tls/cert.pem (cluster.tls.cert_file or --tls-cert): it is signed by no \
                       authority that the server trusts (tls-ca-cert-file) (it said: UnknownCA)";
        check(&of(AlertDescription::UnknownCA), true, Some(refuses));
        check(&of(AlertDescription::ProtocolVersion), true, Some("it speaks neither TLS 1.2 nor TLS 1.3"));
    }

    #[test]
    fn a_port_without_tls_is_named_and_what_is_no_fault_of_tls_is_left_alone() {
        let plain = "no TLS is spoken at this port; it may be the plain-text one (the server's tls-port is the other), or \
                     cluster.tls is not wanted";
        check(&of_rustls(rustls::InvalidMessage::InvalidContentType.into()), false, Some(plain));
        check("Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }", false, None);
        check("WRONGPASS invalid username-password pair or user is disabled.", false, None);
    }
}
