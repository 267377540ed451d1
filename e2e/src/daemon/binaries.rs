//! Where the binaries under test are: in `BERTH_BIN_DIR` if it is set, as for an installed
//! berth, else in `target/bin`, where `make build` puts the ones that ship.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The path of a binary of berth's.
pub fn find(name: &str) -> Result<PathBuf> {
    let dirs = dirs()?;
    if let Some(path) = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()) {
        return Ok(path);
    }
    let places: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    bail!("`{name}` is in none of {}; run:\n    make build", places.join(", "))
}

fn dirs() -> Result<Vec<PathBuf>> {
    if let Some(dir) = std::env::var_os("BERTH_BIN_DIR") {
        return Ok(vec![dir.into()]);
    }
    // target/debug/deps/some_test-0123456789abcdef
    let test = std::env::current_exe().context("find this test's own binary")?;
    let target = test.ancestors().nth(3).context("the target directory")?;
    Ok(vec![target.join("bin")])
}
