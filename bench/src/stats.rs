//! Percentiles and slopes.

use std::time::Duration;

/// Durations, sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sorts them.
    pub fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The smallest value that `percent` of all values don't exceed (nearest rank), in milliseconds.
    /// `None` if there are none.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 1 and a length"
        )]
        let rank = (percent / 100.0 * self.0.len() as f64).ceil().max(1.0) as usize;
        let value = self.0.get(rank.min(self.0.len()).checked_sub(1)?)?;
        Some(value.as_secs_f64() * 1000.0)
    }

    /// The sum of all.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The slope of the line closest to `values` over their index (least squares). 0 for fewer than two.
pub fn slope(values: &[f64]) -> f64 {
    let n = count(values.len());
    if n < 2.0 {
        return 0.0;
    }
    let middle = (n - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / n;
    let (mut above, mut below) = (0.0, 0.0);
    for (index, value) in values.iter().enumerate() {
        let x = count(index) - middle;
        above += x * (value - mean);
        below += x * x;
    }
    above / below
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: &[u64]) -> Latencies {
        Latencies::new(ms.iter().map(|ms| Duration::from_millis(*ms)).collect())
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let all = of(&(1..=100).rev().collect::<Vec<_>>());
        assert!(close(all.percentile(50.0), 50.0));
        assert!(close(all.percentile(90.0), 90.0));
        assert!(close(all.percentile(99.0), 99.0));
        assert!(close(all.percentile(100.0), 100.0));
        assert!(close(all.percentile(0.0), 1.0));
    }

    #[test]
    fn percentiles_of_few() {
        assert!(of(&[]).percentile(50.0).is_none());
        assert!(close(of(&[7]).percentile(1.0), 7.0));
        assert!(close(of(&[7]).percentile(99.0), 7.0));
        assert!(close(of(&[3, 1, 2]).percentile(50.0), 2.0));
        assert!(close(of(&[3, 1, 2, 4]).percentile(50.0), 2.0));
        assert!(close(of(&[3, 1, 2, 4]).percentile(51.0), 3.0));
    }

    #[test]
    fn slopes() {
        assert!(slope(&[]).abs() < 1e-9);
        assert!(slope(&[5.0]).abs() < 1e-9);
        assert!(slope(&[5.0, 5.0, 5.0]).abs() < 1e-9);
        assert!((slope(&[1.0, 3.0, 5.0, 7.0]) - 2.0).abs() < 1e-9);
    }
}
