//! When a certificate expires: the one field of it that nothing in the tree tells.
//!
//! Only lengths and tags are followed (RFC 5280, 4.1; DER); nothing is verified. That is the affair of the TLS library.

use std::time::SystemTime;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which is left out of certificates of the first.
const VERSION: u8 = 0xa0;

/// The end of a certificate's validity; `None` when the bytes are no certificate.
pub(super) fn of_certificate(der: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (signed, _) = expect(SEQUENCE, certificate)?;
    let rest = match element(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (_, rest) = expect(INTEGER, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, rest) = element(validity)?;
    let (tag, not_after, _) = element(rest)?;
    time(tag, std::str::from_utf8(not_after).ok()?)
}

/// The content of the first element, which must have this tag, and what follows it.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, _, _)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The tag and the content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    // Above 0x80: the number of the bytes that hold the length. No certificate is longer than three of them tell.
    let (length, rest) = match first.checked_sub(0x80) {
        None => (usize::from(first), rest),
        Some(bytes @ 1..=3) => {
            let (bytes, rest) = rest.split_at_checked(usize::from(bytes))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        Some(_) => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`: the two forms that certificates have.
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    let text = match (tag, text.len()) {
        // Two digits of a year mean 1950 to 2049.
        (UTC_TIME, 13) if text.as_bytes()[0] < b'5' => format!("20{text}"),
        (UTC_TIME, 13) => format!("19{text}"),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate that expires when this year begins.
    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example.com".to_owned(); 40]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        // Before 2050 a year has two digits in it, from then on four.
        for (year, seconds) in
            [(2020, 1_577_836_800), (2049, 2_493_072_000), (2050, 2_524_608_000), (2101, 4_133_980_800)]
        {
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(of_certificate(&certificate(year)), Some(expected), "{year}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_has_no_end() {
        let certificate = certificate(2101);
        for length in 0..certificate.len() {
            assert_eq!(of_certificate(&certificate[..length]), None, "{length} bytes");
        }
        assert_eq!(of_certificate(b"-----BEGIN CERTIFICATE-----"), None);
        assert_eq!(of_certificate(&[0x30, 0x83, 0xff, 0xff, 0xff]), None);
    }
}
