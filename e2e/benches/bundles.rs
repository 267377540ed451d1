//! `cargo bench -p berth-e2e --bench bundles`: OCI runtimes side by side, in one run.

use std::time::Duration;

use berth_e2e::bench::{self, BundlePlan};
use berth_e2e::place;
use clap::Parser;

/// Measures OCI runtimes side by side.
#[derive(Debug, Parser)]
struct Args {
    /// Runtimes to measure, the first of which the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "berth-oci,crun,runc")]
    runtimes: Vec<String>,
    /// Runs that count, for each runtime.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Runs before them.
    #[arg(long, default_value_t = 5)]
    warm_ups: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    place::native_program(Duration::from_secs(600), async |place| {
        let plan =
            BundlePlan { runtimes: args.runtimes, rounds: args.rounds, warm_ups: args.warm_ups };
        println!("{}", bench::run_bundles(&place, &plan)?);
        Ok(())
    });
}
