//! `ps`: the processes of a container, as ps(1) shows them.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use berth_runtime::oci::Runtime;

use crate::args::{ListFormat, Ps};

/// Prints PIDs, or the lines of ps(1) that are about them.
pub(crate) fn print(runtime: &Runtime, ps: &Ps) -> Result<()> {
    let pids = runtime.processes(&ps.container.id)?;
    let mut out = std::io::stdout().lock();
    if ps.format == ListFormat::Json {
        serde_json::to_writer(&mut out, &pids).context("print")?;
        return writeln!(out).context("print");
    }
    let default = ["-ef".to_owned()];
    let options = if ps.options.is_empty() { &default[..] } else { &ps.options[..] };
    let listed = Command::new("ps").args(options).output().context("run ps")?;
    if !listed.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    for line in chosen(&String::from_utf8_lossy(&listed.stdout), &pids)? {
        writeln!(out, "{line}").context("print")?;
    }
    Ok(())
}

/// The title and the lines whose column `PID` is one of `pids`.
fn chosen<'t>(table: &'t str, pids: &[i32]) -> Result<Vec<&'t str>> {
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|name| name == "PID");
    let column = column.context("ps with these options prints no column PID")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(title).chain(lines.filter(ours)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_column() {
        let table = "UID   PID  CMD\nroot    7  a\nroot   70  b 7\n";
        assert_eq!(chosen(table, &[7]).unwrap(), ["UID   PID  CMD", "root    7  a"]);
        assert!(chosen("UID CMD\n", &[7]).is_err());
    }
}
