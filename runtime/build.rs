//! Builds the pause program, so that it can be carried inside of the shim, and tells the linker
//! where `berth-oci` begins.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=pause/pause.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var_os(name).unwrap_or_default();
    // See `src/sys/entry.rs`; what runs there cannot relocate itself.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    if flags.to_string_lossy().split('\u{1f}').any(|flag| flag == "relocation-model=static") {
        println!("cargo::rustc-link-arg-bin=berth-oci=-Wl,--entry=berth_oci_entry");
    }
    let output = PathBuf::from(variable("OUT_DIR")).join("pause");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "pause"])
        .arg("--target")
        .arg(variable("TARGET"))
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "strip=symbols"])
        .args(["-C", "relocation-model=static", "-C", "target-feature=+crt-static"])
        .args(["-C", "link-args=-nostartfiles -nostdlib -static -no-pie"])
        .args(["-C", "link-args=-Wl,-n -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noexecstack"])
        .arg("-o")
        .arg(&output)
        .arg("pause/pause.rs")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("the pause program did not compile: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("run rustc for the pause program: {error}");
            ExitCode::FAILURE
        }
    }
}
