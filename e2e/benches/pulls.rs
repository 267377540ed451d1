//! `cargo bench -p berth-e2e --bench pulls`: pulls by berthd beside a peer, in one run.

use std::time::Duration;

use berth_e2e::bench::{self, PullPlan};
use berth_e2e::place;
use clap::Parser;

/// Measures how container engines pull, side by side.
#[derive(Debug, Parser)]
struct Args {
    /// Engines to measure, the first of which the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "berthd,containerd")]
    engines: Vec<String>,
    /// Pulls of each large image, for each engine.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Content of the image of many files, in MiB; 0 for none.
    #[arg(long, default_value_t = 850)]
    distribution: usize,
    /// Content of the image of one layer, in MiB; 0 for none.
    #[arg(long, default_value_t = 2048)]
    model: usize,
    /// Images of five small layers.
    #[arg(long, default_value_t = 100)]
    small: usize,
    /// Images of which there is a list.
    #[arg(long, default_value_t = 1000)]
    listed: usize,
    /// Kill the run after this many seconds.
    #[arg(long, default_value_t = 3600)]
    deadline: u64,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    place::native_program(Duration::from_secs(args.deadline), async |place| {
        let engines = args.engines.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        let plan = PullPlan {
            engines,
            rounds: args.rounds,
            distribution: args.distribution,
            model: args.model,
            small: args.small,
            listed: args.listed,
        };
        println!("{}", bench::run_pulls(&place, &plan).await?);
        Ok(())
    });
}
