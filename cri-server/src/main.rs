//! The binary `berthd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_cri_server::cli::main()
}
