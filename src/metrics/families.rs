//! Families of series in a registry of their own.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

/// Families whose series all have the label `cluster`.
pub(super) struct Families {
    registry: Registry,
}

impl Families {
    pub(super) fn new(cluster: &str) -> Result<Self, Error> {
        let labels = HashMap::from([("cluster".to_owned(), cluster.to_owned())]);
        Ok(Self { registry: Registry::new_custom(None, Some(labels))? })
    }

    /// A count that only grows.
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.register(IntCounter::new(name, help)?)
    }

    /// Such a count for each of these values of a label, all at zero.
    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntCounterVec, Error> {
        let counters = self.register(IntCounterVec::new(Opts::new(name, help), &[label])?)?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    /// How values are spread over buckets; the last bucket, without a bound, is added.
    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }

    /// A histogram for each of these values of a label, all empty.
    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histograms = self.register(HistogramVec::new(opts, &[label])?)?;
        for value in values {
            histograms.with_label_values(&[value]);
        }
        Ok(histograms)
    }

    /// A value that goes up and down.
    pub(super) fn gauge(&self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.register(Gauge::new(name, help)?)?.set(value);
        Ok(())
    }

    /// Such a value for each of these combinations of label values.
    pub(super) fn gauges<const LABELS: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        values: impl IntoIterator<Item = ([String; LABELS], f64)>,
    ) -> Result<(), Error> {
        let gauges = self.register(GaugeVec::new(Opts::new(name, help), &labels)?)?;
        for (labels, value) in values {
            gauges.with_label_values(&labels).set(value);
        }
        Ok(())
    }

    /// The process itself, under the names that every Prometheus client uses. Only Linux tells.
    #[cfg(target_os = "linux")]
    pub(super) fn process(&self) -> Result<(), Error> {
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
    pub(super) fn process(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Every family that has a series, with all its series.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}
