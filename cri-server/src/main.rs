//! The binary `berthd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Layers are unpacked by this program too, in a process of its own for each.
    match berth_imageservice::run_as_unpacker() {
        Some(code) => code,
        None => berth_cri_server::cli::main(),
    }
}
