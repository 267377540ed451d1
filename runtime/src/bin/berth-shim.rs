//! `berth-shim DIRECTORY`: parent of a pod's processes. Started by berthd only; see
//! [`berth_runtime::shim`].

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match berth_runtime::shim::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "berth-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
