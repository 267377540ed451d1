//! The metric families, and the handle through which they are counted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::pulls::Pulls;

/// Upper bounds in seconds. One range serves a status call of half a
/// millisecond and a pull of ten minutes, so that any two panels compare.
const SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 600.0,
];

/// The registry refused a family, or could not write it out.
#[derive(Debug, thiserror::Error)]
#[error("{doing} metrics")]
pub struct Error {
    doing: &'static str,
    source: prometheus::Error,
}

/// What `berth_build_info` tells about the running binary.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// Release, as in `0.1.0`.
    pub version: &'a str,
    /// Commit that was built, or `unknown`.
    pub revision: &'a str,
    /// Compiler that built it.
    pub rustc: &'a str,
}

/// Cheap-clone handle to every number of the process.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    operations: IntCounterVec,
    operation_duration: HistogramVec,
    stage_duration: HistogramVec,
    in_flight: IntGauge,
    panics: IntCounter,
    pulls: Pulls,
    network_duration: HistogramVec,
}

impl Metrics {
    /// Registers all families in a registry of their own.
    ///
    /// # Errors
    /// When two families claim one name: a mistake in this file.
    pub fn new(build: Build<'_>) -> Result<Self, Error> {
        let describe = |source| Error { doing: "describe", source };
        Families::register(build).map(|families| Self(Arc::new(families))).map_err(describe)
    }

    /// Counts one answered request: the operation, the name of the gRPC code
    /// that the client saw (`OK`, `NOT_FOUND`...), and how long it took.
    pub fn operation(&self, operation: &str, code: &str, elapsed: Duration) {
        self.0.operations.with_label_values(&[operation, code]).inc();
        self.0.operation_duration.with_label_values(&[operation]).observe(elapsed.as_secs_f64());
    }

    /// Counts one stage of an operation that has succeeded (`StartContainer`, `program`).
    pub fn stage(&self, operation: &str, stage: &str, elapsed: Duration) {
        let labels = [operation, stage];
        self.0.stage_duration.with_label_values(&labels).observe(elapsed.as_secs_f64());
    }

    /// Counts a piece of work as in flight until the guard is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// Counts a panic that was caught at the boundary of a request.
    pub fn panic_caught(&self) {
        self.0.panics.inc();
    }

    /// Adds bytes that came from a registry.
    pub fn pulled(&self, bytes: u64) {
        self.0.pulls.bytes.inc_by(bytes);
    }

    /// Counts a pull as in flight until the guard is dropped.
    #[must_use]
    pub fn pull_in_flight(&self) -> InFlight {
        self.0.pulls.in_flight.inc();
        InFlight(self.0.pulls.in_flight.clone())
    }

    /// Counts a pull that has succeeded: its time, the layers that it fetched, and those that were
    /// here already.
    pub fn pull_done(&self, elapsed: Duration, fetched: u64, reused: u64) {
        self.0.pulls.done(elapsed, fetched, reused);
    }

    /// Counts a pull that has failed, by the host of the image's registry and the class of the
    /// failure, a word out of few.
    pub fn pull_failed(&self, registry: &str, class: &str) {
        self.0.pulls.failed(registry, class);
    }

    /// Counts one call of the network plugins by its CNI verb (`ADD`, `DEL`...).
    pub fn network_operation(&self, verb: &str, elapsed: Duration) {
        self.0.network_duration.with_label_values(&[verb]).observe(elapsed.as_secs_f64());
    }

    /// All families in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// When a family holds what the format cannot express.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new()
            .encode_to_string(&self.0.registry.gather())
            .map_err(|source| Error { doing: "render", source })
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Work that counts in `berth_operations_in_flight` while this lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Families {
    fn register(build: Build<'_>) -> prometheus::Result<Self> {
        let families = Self {
            registry: Registry::new(),
            operations: IntCounterVec::new(
                Opts::new("berth_operations_total", "Requests answered, by what the client saw."),
                &["operation", "code"],
            )?,
            operation_duration: seconds(
                "berth_operation_duration_seconds",
                "Time from a request to its answer.",
                &["operation"],
            )?,
            stage_duration: seconds(
                "berth_stage_duration_seconds",
                "Time that each stage of an operation took that has succeeded.",
                &["operation", "stage"],
            )?,
            in_flight: IntGauge::new(
                "berth_operations_in_flight",
                "Operations that run now; one outlives the client that asked for it.",
            )?,
            panics: IntCounter::new(
                "berth_panics_total",
                "Panics caught at the boundary of a request; each one is a bug.",
            )?,
            pulls: Pulls::new()?,
            network_duration: seconds(
                "berth_network_operation_duration_seconds",
                "Time that a chain of network plugins took.",
                &["verb"],
            )?,
        };
        families.attach(build)?;
        Ok(families)
    }

    fn attach(&self, build: Build<'_>) -> prometheus::Result<()> {
        let info = IntGaugeVec::new(
            Opts::new("berth_build_info", "The build that is running; always 1."),
            &["version", "revision", "rustc"],
        )?;
        info.with_label_values(&[build.version, build.revision, build.rustc]).set(1);

        self.registry.register(Box::new(info))?;
        self.registry.register(Box::new(self.operations.clone()))?;
        self.registry.register(Box::new(self.operation_duration.clone()))?;
        self.registry.register(Box::new(self.stage_duration.clone()))?;
        self.registry.register(Box::new(self.in_flight.clone()))?;
        self.registry.register(Box::new(self.panics.clone()))?;
        self.pulls
            .collectors()
            .into_iter()
            .try_for_each(|family| self.registry.register(family))?;
        self.registry.register(Box::new(self.network_duration.clone()))
    }
}

fn seconds(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Build { version: "1.2.3", revision: "abc", rustc: "1.90" }).unwrap()
    }

    #[test]
    fn a_fresh_registry_tells_its_build_and_that_nothing_panicked() {
        let text = metrics().render().unwrap();

        assert!(
            text.contains(r#"berth_build_info{revision="abc",rustc="1.90",version="1.2.3"} 1"#)
        );
        assert!(text.contains("berth_panics_total 0"));
        assert!(text.contains("berth_operations_in_flight 0"));
    }

    #[test]
    fn an_operation_is_counted_by_code_and_timed_by_name() {
        let metrics = metrics();

        metrics.operation("Version", "OK", Duration::from_millis(2));
        metrics.operation("Version", "INTERNAL", Duration::from_secs(20));

        let text = metrics.render().unwrap();
        assert!(text.contains(r#"berth_operations_total{code="OK",operation="Version"} 1"#));
        assert!(text.contains(
            r#"berth_operation_duration_seconds_bucket{operation="Version",le="0.0025"} 1"#
        ));
        assert!(text.contains(r#"berth_operation_duration_seconds_count{operation="Version"} 2"#));
    }

    #[test]
    fn stages_are_timed_by_operation() {
        let metrics = metrics();

        metrics.stage("StartContainer", "program", Duration::from_millis(3));

        let count = r#"stage_duration_seconds_count{operation="StartContainer",stage="program"} 1"#;
        assert!(metrics.render().unwrap().contains(count));
    }

    #[test]
    fn work_in_flight_ends_with_its_guard() {
        let metrics = metrics();

        let guard = metrics.in_flight();
        assert!(metrics.render().unwrap().contains("berth_operations_in_flight 1"));

        drop(guard);
        assert!(metrics.render().unwrap().contains("berth_operations_in_flight 0"));
    }

    #[test]
    fn pulls_are_counted_by_how_they_ended() {
        let metrics = metrics();

        let guard = metrics.pull_in_flight();
        metrics.pull_done(Duration::from_secs(2), 3, 1);
        metrics.pull_failed("registry.test:5000", "unauthorized");

        let text = metrics.render().unwrap();
        for line in [
            "berth_image_pulls_in_flight 1",
            r#"berth_image_pull_duration_seconds_bucket{le="2.5"} 1"#,
            r#"berth_image_pull_layers_total{how="fetched"} 3"#,
            r#"berth_image_pull_layers_total{how="reused"} 1"#,
            r#"berth_image_pull_failures_total{class="unauthorized",registry="registry.test:5000"} 1"#,
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        drop(guard);
        assert!(metrics.render().unwrap().contains("berth_image_pulls_in_flight 0"));
    }

    #[test]
    fn bytes_and_plugin_calls_are_counted() {
        let metrics = metrics();

        metrics.pulled(7);
        metrics.pulled(5);
        metrics.network_operation("ADD", Duration::from_millis(40));
        metrics.panic_caught();

        let text = metrics.render().unwrap();
        assert!(text.contains("berth_image_pull_bytes_total 12"));
        assert!(text.contains(r#"berth_network_operation_duration_seconds_count{verb="ADD"} 1"#));
        assert!(text.contains("berth_panics_total 1"));
    }
}
