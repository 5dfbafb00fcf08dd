//! When a destination that failed is tried again.

use std::time::Duration;

/// The wait after the `failures`-th failure in a row: doubled each time between `min` and `max`, then
/// moved by up to a fifth either way, so that many servers don't come back at the same moment.
/// `random`: any byte.
pub(crate) fn wait(failures: u32, min: Duration, max: Duration, random: u8) -> Duration {
    // 0.8 … 1.2 in 256 steps.
    usual(failures, min, max).mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}

/// The same before it is moved.
pub(crate) fn usual(failures: u32, min: Duration, max: Duration) -> Duration {
    let doubled = min.saturating_mul(1 << failures.saturating_sub(1).min(30));
    doubled.min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_bounds_and_jitters() {
        let (min, max) = (Duration::from_secs(2), Duration::from_hours(1));
        let mid = |failures| wait(failures, min, max, 127).as_secs_f64().round();
        for (failures, expected) in [(1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0)] {
            assert!((mid(failures) - expected).abs() < 0.01, "{failures}");
        }
        assert!((3590.0..=3600.0).contains(&mid(1000)));
        assert_eq!(wait(1, min, max, 0), Duration::from_millis(1600));
        assert_eq!(wait(1, min, max, 255), Duration::from_millis(2400));
        assert_eq!(wait(0, min, max, 255), Duration::from_millis(2400));
    }
}
