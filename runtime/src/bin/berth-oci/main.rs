//! `berth-oci`: berth's container core behind the standard OCI command line.
//!
//! A drop-in for the OCI runtime setting of other engines. What it does is in
//! [`berth_runtime::oci`]; here is what a person or an engine types, and how errors are told.

mod args;
mod commands;
mod report;

use std::process::ExitCode;

use berth_runtime::oci;
use clap::Parser as _;

use args::Cli;

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq([oci::HELPER]) {
        return if oci::hold_scope().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Some(errand) = restorer() {
        eprintln!("{}", oci::restore_here(&errand));
        return ExitCode::FAILURE;
    }
    // Before anything else: what is done until then is done twice.
    let guarded = oci::guard_program();
    let cli = Cli::parse();
    report::begin(&cli.global);
    match guarded.map_err(anyhow::Error::from).and_then(|()| commands::run(&cli)) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            report::failed(&cli.global, &error);
            match cli.command {
                // Other codes are those of the program; so many scripts tell the two apart.
                args::Command::Exec(_) => ExitCode::from(255),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The errand of a helper that is to become criu.
fn restorer() -> Option<String> {
    let mut args = std::env::args_os().skip(1);
    args.next().filter(|first| first == oci::RESTORER)?;
    args.next()?.into_string().ok()
}
