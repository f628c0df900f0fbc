//! How values lie between their smallest and their largest.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use styxy_protocol::api::Histogram;

/// Upper ends of the ranges in milliseconds, and what the ranges are called. There is one more behind the last.
const RANGES: [(f64, &str); 6] = [
    (10.0, "0-10"),
    (50.0, "10-50"),
    (100.0, "50-100"),
    (500.0, "100-500"),
    (1000.0, "500-1000"),
    (5000.0, "1000-5000"),
];
const BEYOND: &str = "5000+";

/// Durations, counted by range. Clones count into the same one. The client library's own has neither smallest nor
/// largest value, and keeps its counts to itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    ranges: [u64; RANGES.len() + 1],
}

impl Distribution {
    /// Counts one more.
    pub(crate) fn observe(&self, duration: Duration) {
        let milliseconds = duration.as_secs_f64() * 1000.0;
        let range = RANGES.iter().position(|(end, _)| milliseconds <= *end);
        let mut counts = self.lock();
        let is_first = counts.count == 0;
        counts.count += 1;
        counts.sum += milliseconds;
        counts.min = if is_first {
            milliseconds
        } else {
            counts.min.min(milliseconds)
        };
        counts.max = counts.max.max(milliseconds);
        counts.ranges[range.unwrap_or(RANGES.len())] += 1;
    }

    /// What was counted so far.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a mean of 2^52 values is near enough"
    )]
    pub(crate) fn histogram(&self) -> Histogram {
        let counts = self.lock();
        let names = RANGES.iter().map(|(_, name)| *name).chain([BEYOND]);
        let buckets: BTreeMap<_, _> = names
            .zip(counts.ranges)
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        Histogram {
            count: counts.count,
            sum: counts.sum,
            min: counts.min,
            max: counts.max,
            avg: if counts.count == 0 {
                0.0
            } else {
                counts.sum / counts.count as f64
            },
            buckets,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.lock();
        let ends = RANGES.iter().map(|(end, _)| *end).chain([f64::INFINITY]);
        let buckets: Vec<_> = ends.zip(counts.ranges).collect();
        let exemplars: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(counts.sum, counts.count, &buckets, exemplars)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn values_are_counted_by_range_and_shown_in_both_ways() {
        let distribution = Distribution::default();
        assert_eq!(distribution.histogram().avg.to_bits(), 0);
        for milliseconds in [2, 10, 11, 6000] {
            distribution.observe(Duration::from_millis(milliseconds));
        }
        let histogram = distribution.histogram();
        assert_eq!(histogram.count, 4);
        assert_eq!(histogram.buckets["0-10"], 2);
        assert_eq!(histogram.buckets["10-50"], 1);
        assert_eq!(histogram.buckets["5000+"], 1);
        assert_eq!(histogram.buckets.values().sum::<u64>(), 4);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(histogram.min, 2.0) && near(histogram.max, 6000.0));
        assert!(near(histogram.sum, 6023.0) && near(histogram.avg, 1505.75));

        let mut registry = Registry::default();
        registry.register("d", "Durations", distribution);
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "d_count 4",
            "d_bucket{le=\"10.0\"} 2",
            "d_bucket{le=\"50.0\"} 3",
            "d_bucket{le=\"+Inf\"} 4",
        ] {
            assert!(out.lines().any(|it| it == line), "{line}: {out}");
        }
    }
}
