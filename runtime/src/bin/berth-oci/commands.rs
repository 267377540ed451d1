//! What each command does, and what it prints.

mod processes;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use berth_runtime::oci::{self, Described, Keep, Runtime, Target};

use crate::args::{self, Cli, Command, ListFormat};

/// Where the containers' records are if nobody says it.
const ROOT: &str = "/run/berth-oci";

/// Runs a command; answers the exit code.
pub(crate) fn run(cli: &Cli) -> Result<i32> {
    let root = cli.global.root.clone().unwrap_or_else(|| PathBuf::from(ROOT));
    let runtime = Runtime::new(root);
    tracing::debug!(pid = std::process::id(), "{:?}", cli.command);
    match &cli.command {
        Command::Create(create) => runtime.create(&request(cli, create))?,
        Command::Start { container } => runtime.start(&container.id)?,
        Command::Run(run) => {
            let keep = match (run.detach, run.keep) {
                (true, _) => Keep::Detached,
                (false, true) => Keep::Container,
                (false, false) => Keep::Nothing,
            };
            return Ok(runtime.run(&request(cli, &run.create), keep)?);
        }
        Command::State { container } => print_json(&runtime.state(&container.id)?)?,
        Command::Kill(kill) => {
            let signal = oci::signal_number(&kill.signal)?;
            match kill.all {
                true => runtime.kill_all(&kill.container.id, signal)?,
                false => runtime.kill(&kill.container.id, signal)?,
            }
        }
        Command::Delete(delete) => runtime.delete(&delete.container.id, delete.force)?,
        Command::Exec(exec) => return Ok(runtime.exec(&execution(exec))?),
        Command::Pause { container } => runtime.pause(&container.id)?,
        Command::Resume { container } => runtime.resume(&container.id)?,
        Command::Update(update) => runtime.update(&update.container.id, &changes(update)?)?,
        Command::Events(events) => watch(&runtime, events)?,
        Command::Checkpoint(checkpoint) => runtime.checkpoint(&saving(cli, checkpoint)?)?,
        Command::Restore(restore) => {
            let request = oci::Restore {
                create: request(cli, &restore.create),
                criu: criu(cli, &restore.criu)?,
            };
            let keep = if restore.detach { Keep::Detached } else { Keep::Nothing };
            return Ok(runtime.restore(&request, keep)?);
        }
        Command::List(list) => {
            require_root(cli)?;
            print_list(&runtime, list)?;
        }
        Command::Ps(ps) => processes::print(&runtime, ps)?,
        Command::Spec(spec) => write_spec(spec)?,
        Command::Features => print_json(&oci::features())?,
    }
    Ok(0)
}

fn request(cli: &Cli, create: &args::Create) -> oci::Create {
    oci::Create {
        systemd: cli.global.systemd_cgroup,
        id: create.container.id.clone(),
        bundle: create.bundle.clone(),
        handover: handover(&create.handover),
        no_pivot: create.no_pivot,
        no_new_keyring: create.no_new_keyring,
    }
}

fn handover(args: &args::Handover) -> oci::Handover {
    oci::Handover {
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        preserve_fds: args.preserve_fds,
    }
}

fn saving(cli: &Cli, checkpoint: &args::Checkpoint) -> Result<oci::Checkpoint> {
    Ok(oci::Checkpoint {
        id: checkpoint.container.id.clone(),
        criu: criu(cli, &checkpoint.criu)?,
        leave_running: checkpoint.leave_running,
        pre_dump: checkpoint.pre_dump,
        parent: checkpoint.parent_path.clone(),
    })
}

fn criu(cli: &Cli, args: &args::Criu) -> Result<oci::Criu> {
    if let Some(option) = args.unsupported() {
        bail!("{option} is not supported by this version of berth-oci");
    }
    Ok(oci::Criu {
        program: cli.global.criu.clone(),
        images: args.image_path.clone(),
        work: args.work_path.clone(),
        manage_cgroups: args.manage_cgroups_mode.clone(),
        tcp_established: args.tcp_established,
        ext_unix_sk: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
    })
}

fn execution(exec: &args::Exec) -> oci::Exec {
    let target = match &exec.process {
        Some(path) => Target::File(path.clone()),
        None => Target::Command {
            args: exec.command.clone(),
            cwd: exec.cwd.clone(),
            env: exec.env.clone(),
            terminal: exec.tty,
            user: exec.user.clone(),
            additional_gids: exec.additional_gids.clone(),
            capabilities: exec.cap.clone(),
            no_new_privileges: exec.no_new_privs,
            apparmor: exec.apparmor.clone(),
            label: exec.process_label.clone(),
        },
    };
    oci::Exec {
        id: exec.container.id.clone(),
        target,
        detach: exec.detach,
        handover: handover(&exec.handover),
        ignore_paused: exec.ignore_paused,
        cgroup: exec.cgroup.clone(),
    }
}

fn changes(update: &args::Update) -> Result<oci::Update> {
    let mut changes = match &update.resources {
        Some(path) => oci::Update::read(path)?,
        None => oci::Update { resources: update.resources(), ..oci::Update::default() },
    };
    changes.rdt.l3_cache.clone_from(&update.l3_cache_schema);
    changes.rdt.memory_bandwidth.clone_from(&update.mem_bw_schema);
    Ok(changes)
}

fn watch(runtime: &Runtime, events: &args::Events) -> Result<()> {
    let id = &events.container.id;
    if events.stats {
        return print_line(&runtime.statistics(id)?);
    }
    let tell = |event: &oci::Event| {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, event)?;
        writeln!(out)
    };
    Ok(runtime.watch(id, events.interval, tell)?)
}

/// A directory that somebody names and that is not there is a mistake; the usual one is made
/// with the first container.
fn require_root(cli: &Cli) -> Result<()> {
    let Some(root) = &cli.global.root else { return Ok(()) };
    std::fs::metadata(root).with_context(|| format!("read {}", root.display())).map(drop)
}

fn print_line(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value).context("print")?;
    writeln!(out).context("print")
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).context("print")?;
    writeln!(out).context("print")
}

fn print_list(runtime: &Runtime, list: &args::List) -> Result<()> {
    let records = runtime.list()?;
    let found: Result<Vec<Described>, _> =
        records.iter().map(|record| runtime.describe(record)).collect();
    let found = found?;
    let mut out = std::io::stdout().lock();
    if list.quiet {
        for container in &found {
            writeln!(out, "{}", container.id)?;
        }
        return Ok(());
    }
    if list.format == ListFormat::Json {
        drop(out);
        return print_line(&found);
    }
    let heads = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = found.into_iter().map(|container| {
        [
            container.id,
            container.pid.to_string(),
            container.status.to_owned(),
            container.bundle.display().to_string(),
            container.created,
            container.owner,
        ]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn write_spec(spec: &args::Spec) -> Result<()> {
    let path = spec.bundle.join("config.json");
    if path.exists() {
        bail!("{} exists already; remove it first", path.display());
    }
    let mut text = serde_json::to_string_pretty(&oci::template(spec.rootless)).context("encode")?;
    text.push('\n');
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
