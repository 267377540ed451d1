//! The user-mode Linux guest: a kernel that runs as a process on this machine's own file
//! system, for what needs cgroup controllers. Owns its command line and its first process.
//!
//! Debian's `user-mode-linux` is a 6.1 kernel: the floor that berth promises. Most drivers are
//! modules and there is no modprobe to load them on demand, so all that the suite needs is
//! loaded at boot.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname, uname};

use super::stage::{Order, Stage};
use super::{cgroup, init, mounts};

pub(super) const KERNEL: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// Memory of the guest, taken from the machine page by page as it is used.
const MEMORY: &str = "mem=4G";

const NEEDED: [&str; 23] = [
    "overlay",
    "loop",
    "fuse",
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "tun",
    "macvlan",
    "ip_tables",
    "iptable_filter",
    "iptable_nat",
    "ip6_tables",
    "ip6table_filter",
    "ip6table_nat",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
];

/// The command that boots the guest; its first process is this binary again.
pub(super) fn command(order: &Order, stage: &Stage) -> Command {
    let mut command = Command::new(KERNEL);
    command.env("TMPDIR", "/dev/shm").arg(MEMORY);
    command.args(["root=/dev/root", "rootfstype=hostfs", "hostfs=/", "rw", "quiet"]);
    command.args(["con=null", "con0=fd:0,fd:1"]);
    command.arg(format!("uml_dir={}", stage.dir.display()));
    command.args(order.guest_command_line(stage));
    command
}

/// PID 1 of the guest. Never returns: powers the guest off. The verdict lies in the stage,
/// which the guest sees through its root file system.
pub(super) fn run(stage: &Stage) -> ! {
    let ran = prepare().and_then(|()| {
        let order = stage.order()?;
        init::run_and_reap(order.command("inside", stage))
    });
    if let Err(err) = ran {
        eprintln!("PID 1 of the guest: {err:#}");
    }
    // The kernel panics if its PID 1 exits, so this process ends with the kernel.
    let err = reboot(RebootCommand::PowerOff);
    panic!("power off: {err:?}")
}

fn prepare() -> Result<()> {
    // Proc first: until then /proc is the host's, in which "self" is the guest's kernel.
    mounts::kernel_file_systems()?;
    for dir in ["/dev/pts", "/dev/shm"] {
        fs::create_dir_all(dir).with_context(|| format!("make {dir}"))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", flags, c"ptmxmode=666").context("mount /dev/pts")?;
    mounts::private_state()?;
    sethostname(b"guest").context("set the host name")?;
    Modules::load()?.insert(&NEEDED)?;
    legacy_iptables()?;
    cgroup::settle()?;
    init::loopback_up()
}

/// nf_tables of this kernel has no IPv4 NAT, ip_tables has: every `iptables` becomes the
/// legacy one.
fn legacy_iptables() -> Result<()> {
    let [legacy, nft] = ["legacy", "nft"].map(|kind| format!("/usr/sbin/xtables-{kind}-multi"));
    mount_bind(&legacy, &nft).with_context(|| format!("bind {legacy} over {nft}"))
}

/// The modules of the running kernel, as depmod lists them: `path: dependency …`, each path
/// relative, direct and indirect dependencies alike, the nearest first.
struct Modules {
    dir: PathBuf,
    list: String,
}

impl Modules {
    fn load() -> Result<Self> {
        let release = uname().release().to_string_lossy().into_owned();
        let dir = Path::new(MODULES).join(release);
        let path = dir.join("modules.dep");
        let list = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { dir, list })
    }

    fn insert(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let file = format!("/{name}.ko");
            let line = self.list.lines().find_map(|line| {
                let (path, dependencies) = line.split_once(':')?;
                path.ends_with(&file).then_some((path, dependencies))
            });
            let (path, dependencies) = line.with_context(|| format!("find the module {name}"))?;
            for path in dependencies.split_whitespace().rev().chain([path]) {
                self.insert_file(path)?;
            }
        }
        Ok(())
    }

    fn insert_file(&self, path: &str) -> Result<()> {
        const NO_PARAMETERS: &CStr = c"";
        let path = self.dir.join(path);
        let file = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        match finit_module(&file, NO_PARAMETERS, 0) {
            Err(rustix::io::Errno::EXIST) | Ok(()) => Ok(()),
            Err(err) => Err(err).with_context(|| format!("insert {}", path.display())),
        }
    }
}
