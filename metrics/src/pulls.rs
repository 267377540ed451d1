//! What is counted of pulls of images.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

/// Registries that have a label of their own; those of the next pulls share `other`, so that no
/// client can make more series by asking for images of ever new hosts.
const REGISTRIES: usize = 32;

/// Upper bounds in seconds: a re-pull takes milliseconds, a large image minutes.
const SECONDS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1800.0];

/// The families of pulls.
pub(crate) struct Pulls {
    pub(crate) bytes: IntCounter,
    pub(crate) in_flight: IntGauge,
    duration: Histogram,
    layers: IntCounterVec,
    failures: IntCounterVec,
    registries: Mutex<BTreeSet<String>>,
}

impl Pulls {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let duration = HistogramOpts::new(
            "berth_image_pull_duration_seconds",
            "Time that pulls took that have succeeded.",
        );
        Ok(Self {
            bytes: IntCounter::new(
                "berth_image_pull_bytes_total",
                "Bytes of image content received from registries.",
            )?,
            in_flight: IntGauge::new("berth_image_pulls_in_flight", "Pulls that run now.")?,
            duration: Histogram::with_opts(duration.buckets(SECONDS.to_vec()))?,
            layers: IntCounterVec::new(
                Opts::new(
                    "berth_image_pull_layers_total",
                    "Layers of pulls that have succeeded: fetched, or reused because they were here.",
                ),
                &["how"],
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "berth_image_pull_failures_total",
                    "Pulls that have failed, by registry and by what kind of failure it was.",
                ),
                &["registry", "class"],
            )?,
            registries: Mutex::default(),
        })
    }

    /// All families, to be registered.
    pub(crate) fn collectors(&self) -> [Box<dyn Collector>; 5] {
        [
            Box::new(self.bytes.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.layers.clone()),
            Box::new(self.failures.clone()),
        ]
    }

    pub(crate) fn done(&self, elapsed: Duration, fetched: u64, reused: u64) {
        self.duration.observe(elapsed.as_secs_f64());
        self.layers.with_label_values(&["fetched"]).inc_by(fetched);
        self.layers.with_label_values(&["reused"]).inc_by(reused);
    }

    pub(crate) fn failed(&self, registry: &str, class: &str) {
        self.failures.with_label_values(&[self.label(registry), class]).inc();
    }

    /// The registry, if it is among the first of them.
    fn label<'a>(&self, registry: &'a str) -> &'a str {
        let mut known = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(registry) {
            return registry;
        }
        if known.len() >= REGISTRIES {
            return "other";
        }
        known.insert(registry.to_owned());
        registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_registries_have_a_label() {
        let pulls = Pulls::new().unwrap();
        for number in 0..1000 {
            pulls.failed(&format!("r{number}.test"), "not_found");
        }
        pulls.failed("r7.test", "not_found");
        let families = pulls.failures.collect();
        assert_eq!(families[0].get_metric().len(), REGISTRIES + 1);
        assert_eq!(pulls.failures.with_label_values(&["other", "not_found"]).get(), 968);
        assert_eq!(pulls.failures.with_label_values(&["r7.test", "not_found"]).get(), 2);
    }
}
