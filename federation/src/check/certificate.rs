//! Until when a certificate counts. What checks certificates doesn't say it of a good one.

use crate::outbound::date::seconds;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
/// `YYMMDDHHMMSSZ`
const UTC_TIME: u8 = 0x17;
/// `YYYYMMDDHHMMSSZ`
const GENERALIZED_TIME: u8 = 0x18;

/// Until when a certificate (X.509, DER) counts, in seconds since 1970; `None`: it can't be read.
pub(super) fn ends(der: &[u8]) -> Option<i64> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (signed, _) = expect(certificate, SEQUENCE)?;
    let rest = match element(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (_serial, rest) = expect(rest, INTEGER)?;
    let (_algorithm, rest) = expect(rest, SEQUENCE)?;
    let (_issuer, rest) = expect(rest, SEQUENCE)?;
    let (validity, _) = expect(rest, SEQUENCE)?;
    let (_, _not_before, rest) = element(validity)?;
    let (tag, not_after, _) = element(rest)?;
    time(tag, not_after)
}

/// The content of the first element, which is of this kind, and what follows.
fn expect(input: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(input)?;
    (tag == wanted).then_some((content, rest))
}

/// The first element: its kind, its content, and what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, input) = input.split_first()?;
    let (first, input) = input.split_first()?;
    let (length, input) = if *first < 0x80 {
        (usize::from(*first), input)
    } else {
        let bytes = usize::from(first & 0x7f);
        if !(1..=3).contains(&bytes) {
            return None;
        }
        let (length, input) = input.split_at_checked(bytes)?;
        let length = length
            .iter()
            .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        (length, input)
    };
    let (content, rest) = input.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let length = match tag {
        UTC_TIME => 12,
        GENERALIZED_TIME => 14,
        _ => return None,
    };
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != length || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |pair: &[u8]| {
        let digits = pair.iter().map(|digit| i64::from(digit - b'0'));
        digits.fold(0, |number, digit| number * 10 + digit)
    };
    let pairs: Vec<i64> = digits.chunks(2).map(two).collect();
    match *pairs.as_slice() {
        [year, month, day, hour, minute, second] => {
            let century = if year < 50 { 2000 } else { 1900 };
            seconds([century + year, month, day], [hour, minute, second])
        }
        [century, year, month, day, hour, minute, second] => {
            let year = century * 100 + year;
            seconds([year, month, day], [hour, minute, second])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(year: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 3);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        assert_eq!(ends(&issued(2030)), Some(1_896_307_200));
        assert_eq!(ends(&issued(2060)), Some(2_842_992_000));
    }

    #[test]
    fn what_is_cut_or_mangled_is_none() {
        let whole = issued(2030);
        for length in 0..60 {
            assert_eq!(ends(&whole[..length]), None, "{length}");
        }
        assert_eq!(ends(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(ends(&[0x30, 0x83, 0xff, 0xff, 0xff]), None);
        for (tag, text) in [
            (UTC_TIME, &b"300203000000"[..]),
            (UTC_TIME, b"30020300000Z"),
            (UTC_TIME, b"3002030000-1Z"),
            (UTC_TIME, b"301303000000Z"),
            (GENERALIZED_TIME, b"300203000000Z"),
            (0x04, b"300203000000Z"),
        ] {
            assert_eq!(time(tag, text), None);
        }
        assert_eq!(time(UTC_TIME, b"991231235959Z"), Some(946_684_799));
    }
}
