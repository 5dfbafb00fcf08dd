//! The few value types that settings are made of: durations, sizes, secrets, checked strings.
//!
//! A message that a `Deserialize` here produces has the form `what is wrong; what to do`:
//! [`super::Problem`] splits it at the first `"; "`.

use std::fmt;
use std::time::Duration;

use ruma::OwnedServerName;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// A span of time, written `"500ms"`, `"30s"`, `"5m"`, `"1h"` or `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Reads one; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let millis = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        Some(Self(Duration::from_millis(number.checked_mul(millis)?)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a span of time; write a number and a unit, such as \"500ms\", \"30s\", \"5m\", \"1h\" or \"7d\""
            ))
        })
    }
}

/// A number of bytes, written `65536`, `"64 KiB"`, `"50 MiB"` or `"1 GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// A number of mebibytes.
    pub const fn mib(number: u64) -> Self {
        Self(number * 1024 * 1024)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let factor = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(factor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 65536 or \"50 MiB\"")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number).map(Size).map_err(|_| {
                    E::custom(
                        "a size can't be negative; write a number of bytes such as \"50 MiB\"",
                    )
                })
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| {
                    E::custom(format!(
                        "`{text}` is not a size; write bytes, or a number and a unit, such as \"64 KiB\", \"50 MiB\" or \"1 GiB\""
                    ))
                })
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// A day, written `"2026-01-31"`, as its beginning (UTC) in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub i64);

impl Date {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-').map(|part| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<i64>().ok().filter(|_| digits)
        });
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_of = |month: i64| match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let fits = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of(month)).contains(&day);
        if parts.next().is_some() || !fits {
            return None;
        }
        let before = year - 1;
        let leap_days =
            before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
        let days = (year - 1970) * 365 + leap_days + (1..month).map(days_of).sum::<i64>() + day - 1;
        Some(Self(days * 24 * 3_600_000))
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a day; write year, month and day, such as \"2026-01-31\""
            ))
        })
    }
}

/// A value that must not be printed: its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Parses a Matrix server name, with a message for people who wrote a URL.
pub fn server_name(text: &str) -> Result<OwnedServerName, String> {
    let lower = text.to_ascii_lowercase();
    let wrong = || {
        format!(
            "`{text}` is not a Matrix server name; write a host name such as \"example.org\", without https:// and without a path (an explicit port is allowed: \"example.org:8448\")"
        )
    };
    if lower.contains("://") || lower.contains('/') {
        return Err(wrong());
    }
    OwnedServerName::try_from(lower).map_err(|_| wrong())
}

/// `deserialize_with` for one server name.
pub(super) fn de_server_name<'de, D: Deserializer<'de>>(d: D) -> Result<OwnedServerName, D::Error> {
    server_name(&String::deserialize(d)?).map_err(D::Error::custom)
}

/// `deserialize_with` for a server name that may be absent.
pub(super) fn de_server_name_option<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<OwnedServerName>, D::Error> {
    Option::<String>::deserialize(d)?
        .map(|s| server_name(&s).map_err(D::Error::custom))
        .transpose()
}

/// `deserialize_with` for a list of server names.
pub(super) fn de_server_names<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Vec<OwnedServerName>, D::Error> {
    Vec::<String>::deserialize(d)?
        .iter()
        .map(|s| server_name(s).map_err(D::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(
                Span::parse(text),
                Some(Span(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "s",
            "-3s",
            "3 weeks",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("64 KiB", 65536),
            ("50MiB", 52_428_800),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "50 MB", "-1", "99999999999999999999"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-12-31", 364 * 86_400_000),
            ("2000-02-29", 951_782_400_000),
            ("2024-09-01", 1_725_148_800_000),
            ("2026-1-31", 1_769_817_600_000),
        ] {
            assert_eq!(Date::parse(text), Some(Date(ms)), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-01",
            "2026-00-01",
            "2026-13-01",
            "2026-02-29",
            "2026-04-31",
            "2026-01-00",
            "1969-12-31",
            "2026-01-01-01",
            "+2026-01-01",
            "2026-01-01T00:00:00Z",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    #[test]
    fn server_names() {
        assert_eq!(server_name("Example.ORG").unwrap(), "example.org");
        assert_eq!(server_name("example.org:8448").unwrap(), "example.org:8448");
        for text in [
            "https://example.org",
            "example.org/path",
            "",
            "a b",
            "example.org:port",
        ] {
            assert!(
                server_name(text)
                    .unwrap_err()
                    .contains("; write a host name"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
