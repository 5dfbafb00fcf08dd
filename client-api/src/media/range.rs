//! Which part of a file is asked for (<https://www.rfc-editor.org/rfc/rfc9110#name-range>).

use std::ops::Range;

/// What a `Range` header comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it. So is answered what isn't understood, and what names several parts: the specification of HTTP lets a
    /// server pass that over, nobody who shows media asks so, and small parts that overlap would make a small request
    /// an endless answer.
    All,
    /// These bytes, of which there is at least one.
    Bytes(Range<u64>),
    /// None of what is there.
    None,
}

/// The part of a file of `size` bytes that a header names.
pub(super) fn part(header: &str, size: u64) -> Part {
    let Some(ranges) = after_unit(header.trim()) else {
        return Part::All;
    };
    let Some((first, last)) = ranges.trim().split_once('-') else {
        return Part::All;
    };
    match (number(first), number(last)) {
        (Bound::At(first), last @ (Bound::At(_) | Bound::Open)) => {
            let last = match last {
                Bound::At(last) => last,
                _ => u64::MAX,
            };
            if last < first {
                // What is the wrong way round is no range at all.
                Part::All
            } else if first >= size {
                Part::None
            } else {
                Part::Bytes(first..last.saturating_add(1).min(size))
            }
        }
        // The last so many.
        (Bound::Open, Bound::At(count)) if count == 0 || size == 0 => Part::None,
        (Bound::Open, Bound::At(count)) => Part::Bytes(size.saturating_sub(count)..size),
        _ => Part::All,
    }
}

/// What follows `bytes=`; the unit's case doesn't matter.
fn after_unit(header: &str) -> Option<&str> {
    let (unit, ranges) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(ranges)
}

/// One end of a range.
enum Bound {
    /// It isn't said.
    Open,
    At(u64),
    /// What is said is no number.
    Nonsense,
}

/// What is larger than any file counts as the largest.
fn number(text: &str) -> Bound {
    let text = text.trim();
    if text.is_empty() {
        Bound::Open
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Bound::At(text.parse().unwrap_or(u64::MAX))
    } else {
        Bound::Nonsense
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_given() {
        for (header, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-9", 0..10),
            ("bytes=3-", 3..10),
            ("bytes=9-", 9..10),
            ("bytes=-4", 6..10),
            ("bytes=-400", 0..10),
            ("bytes=2-99999999999999999999999999", 2..10),
            ("bytes=-99999999999999999999999999", 0..10),
            ("bytes=0-18446744073709551615", 0..10),
            (" Bytes = 1 - 2 ", 1..3),
        ] {
            assert_eq!(part(header, 10), Part::Bytes(range), "{header}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_not_to_be() {
        for header in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=-0",
            "bytes=99999999999999999999999999-",
        ] {
            assert_eq!(part(header, 10), Part::None, "{header}");
        }
        assert_eq!(part("bytes=0-", 0), Part::None);
        assert_eq!(part("bytes=-1", 0), Part::None);
    }

    #[test]
    fn what_is_no_range_of_bytes_is_passed_over() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5",
            "bytes=5-4",
            "bytes=--5",
            "bytes=-5-",
            "bytes=+1-2",
            "bytes=a-b",
            "bytes=0x1-2",
            "bytes=0-1,3-4",
            "bytes=0-,0-,0-,0-",
            "bytes=1-2-3",
            "lines=1-2",
        ] {
            assert_eq!(part(header, 10), Part::All, "{header}");
        }
    }
}
