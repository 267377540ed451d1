//! Terminals of bundles.

use std::process::Stdio;

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use serde_json::json;

fn on_terminal(oci: &Oci) -> Result<Bundle> {
    Ok(oci.bundle("a")?.set("/process/terminal", json!(true)))
}

#[test]
fn who_reads_a_foreground_container_gets_lines_as_they_were_written() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let output = oci.run(&on_terminal(&oci)?.script("tty; echo one; echo two; exit 4")).await?;
        assert_eq!((output.code, output.stdout.as_str()), (4, "/dev/pts/0\none\ntwo\n"));
        oci.assert_clean().await
    });
}

#[test]
fn a_terminal_belongs_to_the_user() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let user = json!({"uid": 1000, "gid": 1000});
        let bundle = on_terminal(&oci)?.set("/process/user", user);
        let script = "stat -c %u:%g $(tty); echo written > $(tty)";
        let output = oci.run(&bundle.clone().script(script)).await?;
        assert_eq!(output.stdout, "1000:5\nwritten\n", "{output:?}");
        let sleeper = bundle.set("/process/terminal", json!(false)).args(&["/bin/sleep", "1000"]);
        oci.start(&sleeper).await?;
        let words = ["exec", "--tty", "a", "/bin/sh", "-c", script];
        assert_eq!(oci.ok(&words).await?, "1000:5\nwritten\n");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_terminal_that_nobody_would_hold_is_refused() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = on_terminal(&oci)?.args(&["/bin/sleep", "1000"]);
        bundle.write()?;
        let detached = ["run", "--detach", "--bundle", bundle.path(), "a"];
        let refused = oci.call(&detached).await?;
        assert!(refused.stderr.contains("--console-socket"), "{refused:?}");
        let listener = place.scratch().join("tty.sock");
        let socket = listener.to_str().context("a path")?.to_owned();
        let held = std::os::unix::net::UnixListener::bind(&listener)?;
        let words =
            ["run", "--detach", "--console-socket", &socket, "--bundle", bundle.path(), "a"];
        let mut run = oci.command(&words);
        assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().await?.success());
        let (connection, _) = held.accept()?;
        drop((connection, held));
        oci.delete("a").await?;
        std::fs::remove_file(listener)?;
        oci.assert_clean().await
    });
}
