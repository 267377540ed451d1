//! Flags of `checkpoint` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::{Container, Create};

/// What both have.
#[derive(Debug, Args)]
pub(crate) struct Criu {
    /// Directory of the images [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    pub(crate) image_path: Option<PathBuf>,

    /// Directory of criu's logs [default: that of the images]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<PathBuf>,

    /// Keep TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,

    /// Let unix sockets lead out of the container
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,

    /// Let it be part of a session outside of it
    #[arg(long)]
    pub(crate) shell_job: bool,

    /// Keep file locks
    #[arg(long)]
    pub(crate) file_locks: bool,

    /// How cgroups are treated: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    pub(crate) manage_cgroups_mode: Option<String>,

    #[arg(long, hide = true)]
    lazy_pages: bool,

    #[arg(long, hide = true)]
    auto_dedup: bool,

    #[arg(long, hide = true)]
    empty_ns: Vec<String>,

    #[arg(long, hide = true)]
    page_server: Option<String>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    status_fd: Option<String>,
}

impl Criu {
    /// The first option that other runtimes know, and this one does not do.
    pub(crate) fn unsupported(&self) -> Option<&'static str> {
        let given = [
            (self.lazy_pages, "--lazy-pages"),
            (self.auto_dedup, "--auto-dedup"),
            (!self.empty_ns.is_empty(), "--empty-ns"),
            (self.page_server.is_some(), "--page-server"),
            (self.status_fd.is_some(), "--status-fd"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    pub(crate) container: Container,

    #[command(flatten)]
    pub(crate) criu: Criu,

    /// Let the container run on
    #[arg(long)]
    pub(crate) leave_running: bool,

    /// Save its memory only, take note of what changes, and let it run on
    #[arg(long)]
    pub(crate) pre_dump: bool,

    /// Images of a --pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) create: Create,

    #[command(flatten)]
    pub(crate) criu: Criu,

    /// Do not wait for the container
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Accepted for other engines' sake: this process never adopts others
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}
