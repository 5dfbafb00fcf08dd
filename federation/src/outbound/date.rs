//! Times as others write them, in seconds since 1970.

/// An HTTP date in its preferred form, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month_name)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.splitn(3, ':').map(str::parse::<i64>);
    let clock = [
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    ];
    seconds([year, month, day], clock)
}

/// A date (year, month, day) and a time (hour, minute, second) of UTC.
pub(crate) fn seconds([year, month, day]: [i64; 3], clock: [i64; 3]) -> Option<i64> {
    let [hour, minute, second] = clock;
    let is_time =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    let is_date =
        (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || !is_time {
        return None;
    }
    // Days from the civil calendar, counted from March so that a leap day ends the year.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(
            http_date("Thu, 29 Feb 2024 00:00:00 GMT"),
            Some(1_709_164_800)
        );
        for bad in [
            "",
            "0",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov",
            "x, 1 Jan 99999 1:1:1 G",
            "x, 1 Jan 2024 9223372036854775807:0:0 G",
            "x, 1 Jan 2024 -9223372036854775808:0:0 G",
            "x, 1 Jan 2024 0:9223372036854775807:9223372036854775807 G",
            "x, 1 Jan 2024 23:60:00 G",
            "x, -9223372036854775808 Jan 2024 0:0:0 G",
            "x, 1 Jan -9223372036854775808 0:0:0 G",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }
}
