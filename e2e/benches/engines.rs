//! `cargo bench -p berth-e2e`: berthd beside a peer, in one run, on one machine.

use std::time::Duration;

use berth_e2e::bench::{self, Plan};
use berth_e2e::place;
use clap::Parser;

/// Measures container engines side by side.
#[derive(Debug, Parser)]
struct Args {
    /// Engines to measure, the first of which the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "berthd,containerd")]
    engines: Vec<String>,
    /// Pod lifecycles that count, for each engine and network.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Pod lifecycles before them.
    #[arg(long, default_value_t = 5)]
    warm_ups: usize,
    /// Pulls of the large image, for each engine.
    #[arg(long, default_value_t = 5)]
    pulls: usize,
    /// Content of the large image, in MB.
    #[arg(long, default_value_t = 200)]
    image_megabytes: usize,
    /// Pods at the same time when memory is measured.
    #[arg(long, default_value_t = 10)]
    resident_pods: usize,
    /// Run pods under the default seccomp profile.
    #[arg(long)]
    seccomp: bool,
    /// Quiet time between two lifecycles, in milliseconds.
    #[arg(long, default_value_t = 100)]
    gap: u64,
    /// Kill the run after this many seconds.
    #[arg(long, default_value_t = 1800)]
    deadline: u64,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    place::native_program(Duration::from_secs(args.deadline), async |place| {
        let engines = args.engines.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        let plan = Plan {
            engines,
            rounds: args.rounds,
            warm_ups: args.warm_ups,
            pulls: args.pulls,
            image_megabytes: args.image_megabytes,
            resident_pods: args.resident_pods,
            seccomp: args.seccomp,
            gap: Duration::from_millis(args.gap),
        };
        let (table, steps) = bench::run(&place, &plan).await?;
        println!("{table}");
        if let Some(steps) = steps {
            println!("{steps}");
        }
        Ok(())
    });
}
