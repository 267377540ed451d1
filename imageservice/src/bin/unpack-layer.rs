//! The unpacker alone, for this crate's own tests. What ships is berthd, which runs itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_imageservice::run_as_unpacker().unwrap_or(ExitCode::from(2))
}
