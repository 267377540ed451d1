//! Generates the clients of the two sockets from berthd's protos, without a `protoc`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

const PROTOS: &str = "../cri-server/proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTOS}");
    println!("cargo::rerun-if-env-changed=BERTH_REVISION");

    let files = protox::compile(["api.proto", "admin.proto"], [PROTOS])?;
    builder()
        .build_server(false)
        // These hold secrets: `src/api/redact.rs` writes their Debug.
        .skip_debug([
            ".runtime.v1.AuthConfig",
            ".runtime.v1.KeyValue",
            ".berth.admin.v1.Credentials",
        ])
        .compile_fds(files.clone())?;

    // The other end, for `tests/` only: a daemon that answers what a test wants. The binary
    // never includes it.
    let servers = PathBuf::from(env::var("OUT_DIR")?).join("server");
    fs::create_dir_all(&servers)?;
    builder()
        .build_client(false)
        .generate_default_stubs(true)
        .out_dir(servers)
        .compile_fds(files)?;
    Ok(())
}

fn builder() -> tonic_prost_build::Builder {
    // Labels and annotations are shown in the same order every time.
    tonic_prost_build::configure().btree_map(".")
}
