//! Generates the CRI and admin services from `proto/`, without a `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-env-changed=BERTH_REVISION");
    println!("cargo::rustc-env=BERTH_RUSTC={}", rustc_version()?);

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let files = protox::compile(["api.proto", "admin.proto"], ["proto"])?;
    // `tests/wire_contract.rs` judges exactly what was compiled.
    fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_client(false)
        // An environment variable need not be UTF-8.
        .bytes(".runtime.v1.KeyValue.value")
        // Sorted maps make the encoding of a message canonical, and with it
        // the fingerprint by which a retry is recognised.
        .btree_map(".")
        // These hold secrets: `src/api/redact.rs` writes their Debug.
        .skip_debug([
            ".runtime.v1.AuthConfig",
            ".runtime.v1.KeyValue",
            ".berth.admin.v1.Credentials",
        ])
        .compile_fds(files)?;
    Ok(())
}

/// `1.90.0` of `rustc 1.90.0 (hash date)`.
fn rustc_version() -> Result<String, Box<dyn Error>> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}
