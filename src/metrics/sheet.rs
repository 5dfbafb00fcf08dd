//! A sheet of figures, which the client library of Prometheus writes.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use rhizome_storage::Observed;

/// The form that [`Sheet::text`] has.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What tells the figures of a family from each other. Their values are those of the program, of the operator, or of a
/// bounded list: never a stranger's.
pub(super) type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// A figure with what it is of.
pub(super) type Sample = (Labels, f64);

/// All that is told at once.
#[derive(Debug, Default)]
pub(super) struct Sheet(Vec<Family>);

/// Figures of one name.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    Counters(Vec<Sample>),
    Gauges(Vec<Sample>),
    Histograms(Vec<(Labels, Observed)>, Unit),
}

/// What a histogram has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things.
    Pieces,
    /// Microseconds, which are told as seconds.
    Micros,
}

/// The only figure of its name.
pub(super) fn one(value: f64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

/// A figure of one of several.
pub(super) fn of(label: &'static str, value: impl Into<Cow<'static, str>>, figure: f64) -> Sample {
    (vec![(label, value.into())], figure)
}

/// As a figure; what is beyond 2^53 loses its last digits.
#[expect(clippy::cast_precision_loss, reason = "figures are for looking at")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

impl Sheet {
    /// Figures that only rise. `_total` is added to their name.
    pub(super) fn counters(&mut self, name: &'static str, help: &'static str, of: Vec<Sample>) {
        self.add(name, help, Samples::Counters(of));
    }

    /// Figures that are so now.
    pub(super) fn gauges(&mut self, name: &'static str, help: &'static str, of: Vec<Sample>) {
        self.add(name, help, Samples::Gauges(of));
    }

    /// Values by buckets.
    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        of: Vec<(Labels, Observed)>,
    ) {
        self.add(name, help, Samples::Histograms(of, unit));
    }

    fn add(&mut self, name: &'static str, help: &'static str, samples: Samples) {
        self.0.push(Family {
            name,
            help,
            samples,
        });
    }

    /// As Prometheus reads it.
    pub(super) fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let kind = match family.samples {
                Samples::Counters(_) => MetricType::Counter,
                Samples::Gauges(_) => MetricType::Gauge,
                Samples::Histograms(..) => MetricType::Histogram,
            };
            let encoder = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            family.samples.encode(encoder)?;
        }
        Ok(())
    }
}

impl Samples {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        match self {
            Self::Counters(samples) => {
                for (labels, value) in samples {
                    let none = None::<&Exemplar<NoLabelSet, f64>>;
                    if labels.is_empty() {
                        encoder.encode_counter(value, none)?;
                    } else {
                        encoder.encode_family(labels)?.encode_counter(value, none)?;
                    }
                }
            }
            Self::Gauges(samples) => {
                for (labels, value) in samples {
                    if labels.is_empty() {
                        encoder.encode_gauge(value)?;
                    } else {
                        encoder.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
            }
            Self::Histograms(samples, unit) => {
                for (labels, observed) in samples {
                    let buckets = observed.buckets.iter().copied();
                    let buckets: Vec<_> = buckets.map(|(end, n)| (unit.end(end), n)).collect();
                    let (sum, count) = (unit.told(observed.sum), observed.count());
                    if labels.is_empty() {
                        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                    } else {
                        encoder
                            .encode_family(labels)?
                            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Unit {
    fn told(self, value: u64) -> f64 {
        match self {
            Self::Pieces => number(value),
            Self::Micros => number(value) / 1e6,
        }
    }

    /// The end of a bucket; the last one has none.
    fn end(self, end: u64) -> f64 {
        if end == u64::MAX {
            f64::INFINITY
        } else {
            self.told(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::Histogram;

    use super::*;

    #[test]
    fn it_is_written_as_prometheus_reads_it() {
        let mut sheet = Sheet::default();
        sheet.counters("a", "Of a", vec![of("kind", "x\"y\n", 2.0)]);
        sheet.gauges("b", "Of b", one(1.5));
        let histogram = Histogram::new(&[1_000, 500_000]);
        for micros in [10, 400_000, 900_000] {
            histogram.observe(micros);
        }
        let seen = vec![(Vec::new(), histogram.now())];
        sheet.histograms("c_seconds", "Of c", Unit::Micros, seen);
        let text = sheet.text().unwrap();
        for line in [
            "# TYPE a_total counter",
            "a_total{kind=\"x\\\"y\\n\"} 2",
            "# TYPE b gauge",
            "b 1.5",
            "# TYPE c_seconds histogram",
            "c_seconds_bucket{le=\"0.5\"} 2",
            "c_seconds_bucket{le=\"+Inf\"} 3",
            "c_seconds_count 3",
        ] {
            let mut lines = text.lines();
            assert!(
                lines.any(|one| one.trim_end_matches(".0") == line),
                "{line}\n{text}"
            );
        }
    }
}
