//! Every key that the configuration has, with its default and its text.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::quantity::{Mode, Size, Timeout};
use super::section::section;
use super::word::{Capability, CgroupDriver, LogFormat, LogLevel, MissingControllers};

section! {
    /// berthd serves the Container Runtime Interface to the kubelet.
    Directories = "" {
        /// What survives a reboot: images, snapshots, records of containers.
        /// One file system for all of it.
        root: PathBuf = "/var/lib/berth".into(),

        /// What a reboot clears: sockets, namespaces, records of sandboxes.
        /// Belongs on a tmpfs.
        state: PathBuf = "/run/berth".into(),
    }
}

section! {
    /// The socket of the CRI, for the kubelet and crictl.
    Grpc = "grpc" {
        /// Path of the unix socket. When it is not set it lies below `state`.
        socket: PathBuf = "/run/berth/berth.sock".into(),

        /// Permissions of the socket. Who may write to it is root on the node.
        socket_mode: Mode = Mode::new(0o660),

        /// Group that owns the socket, as a number.
        socket_gid: u32 = 0,

        /// Longest message in either direction. The kubelet's own limit is 16MiB.
        max_message_size: Size = Size::mib(16),
    }
}

section! {
    /// The socket of `berth`, the command line.
    Admin = "admin" {
        /// Path of the unix socket. When it is not set it lies below `state`.
        socket: PathBuf = "/run/berth/admin.sock".into(),

        /// Permissions of the socket. Who may write to it is root on the node.
        socket_mode: Mode = Mode::new(0o660),

        /// Group that owns the socket, as a number.
        socket_gid: u32 = 0,
    }
}

section! {
    /// The log, on standard error. The environment variable BERTH_LOG (as in
    /// "info,berth_sandbox=debug") wins over `level`.
    Log = "log" {
        /// "error", "warn", "info", "debug" or "trace".
        level: LogLevel = LogLevel::Info,

        /// "text" for people, "json" for programs.
        format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// Pod networks, through CNI plugins.
    Cni = "cni" {
        /// Where network configurations are looked for; the first file by name
        /// in the first of these directories that has one is the pod network.
        conf_dirs: Vec<PathBuf> = vec!["/etc/cni/net.d".into()],

        /// Where plugins are looked for, in this order.
        bin_dirs: Vec<PathBuf> =
            ["/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni"].map(PathBuf::from).to_vec(),

        /// Where results are kept, in the layout that all runtimes share.
        cache_dir: PathBuf = "/var/lib/cni".into(),

        /// Longest run of one plugin; then its process group is killed.
        plugin_timeout: Timeout = Timeout::seconds(60),

        /// Pods whose plugins run at the same time.
        max_concurrent: NonZeroUsize = count(16),

        /// How long a new pod waits for a network configuration when there is
        /// none yet. "0s" fails at once.
        network_wait: Duration = Duration::from_secs(5),
    }
}

section! {
    /// Images and registries.
    Image = "image" {
        /// Where mirrors and certificates of a registry are looked for, as
        /// HOST/hosts.toml in containerd's format, or HOST/*.crt in Docker's. The
        /// first directory that has the host wins. Read at every pull.
        certs_dirs: Vec<PathBuf> = certs_dirs(),

        /// Mirrors, locations, blocked names and short names in the format of
        /// podman and CRI-O. Its drop-ins are *.conf in the directory of the same
        /// name with ".d". A registry with a hosts.toml of its own takes its
        /// mirrors from there. Read at every pull; need not exist. Empty: not read.
        registries_conf: Option<PathBuf> = Some("/etc/containers/registries.conf".into()),

        /// Layers of one pull that are fetched at the same time.
        max_concurrent_downloads: NonZeroUsize = count(4),

        /// A download that brings no byte for this long is given up.
        stall_timeout: Timeout = Timeout::seconds(60),

        /// Longest layer, unpacked.
        max_layer_size: Size = Size::gib(64),

        /// Longest archive that `berth image import` accepts.
        max_import_size: Size = Size::gib(64),

        /// Images that are never collected, as full references. "*" stands for
        /// any run of characters.
        pinned: Vec<String> = Vec::new(),
    }
}

section! {
    /// The node's own credentials, for pulls to which the kubelet sends none and
    /// for mirrors. All is read at every pull.
    Credentials = "credentials" {
        /// Directories of *.json files in the format of docker login and podman
        /// login, with `auths`, `credHelpers` and `credsStore`.
        auth_dirs: Vec<PathBuf> = vec!["/etc/berth/auth.d".into()],

        /// Where the programs docker-credential-NAME are looked for.
        helper_dirs: Vec<PathBuf> =
            ["/usr/local/bin", "/usr/bin"].map(PathBuf::from).to_vec(),

        /// A CredentialProviderConfig, as the kubelet reads it. Empty: none.
        provider_config: Option<PathBuf> = None,

        /// Where the programs that it names are looked for.
        provider_dirs: Vec<PathBuf> =
            vec!["/usr/libexec/kubernetes/kubelet-plugins/credential-provider".into()],

        /// Longest run of a helper or provider; then it is killed and passed over.
        timeout: Timeout = Timeout::seconds(30),
    }
}

section! {
    /// Which images may be pulled and run. Files and programs are looked at anew
    /// at every pull, and for every container.
    Trust = "trust" {
        /// What is asked of images, by name: tables `image_policy` with `scope`,
        /// `require` ("accept", "reject" or "signature"), `keys` and `identity`; see
        /// docs/IMAGE-POLICY.md. Need not exist. Empty: no policy.
        policy_file: Option<PathBuf> = Some("/etc/berth/image-policy.toml".into()),

        /// Programs that have to agree, in containerd's convention for image
        /// verifiers: every file in this directory. Empty: none.
        verifier_dir: Option<PathBuf> = None,

        /// The most that there may be. More of them refuse every image.
        max_verifiers: NonZeroUsize = count(10),

        /// Longest run of one of them; then the image is refused.
        verifier_timeout: Timeout = Timeout::seconds(10),
    }
}

section! {
    /// Containers and the processes in them.
    Runtime = "runtime" {
        /// Path of berth-shim. Empty: beside berthd, else in /usr/libexec/berth.
        shim: Option<PathBuf> = None,

        /// Handler of a pod that names none: "berth", which is berthd's own
        /// runtime, or the name of another one of the configuration.
        default_handler: String = "berth".to_owned(),

        /// Where the cgroup v2 hierarchy is mounted.
        cgroup_root: PathBuf = "/sys/fs/cgroup".into(),

        /// Who makes the cgroups of pods: "cgroupfs" (berthd) or "systemd", which
        /// is right where systemd is the first process. The kubelet asks for it
        /// and does the same.
        cgroup_driver: CgroupDriver = CgroupDriver::Cgroupfs,

        /// Parent of pods that name none, below `cgroup_root`. With systemd it is
        /// a slice: "/a/b" is a-b.slice.
        default_cgroup_parent: PathBuf = "/berth".into(),

        /// What becomes of a limit whose cgroup controller is missing:
        /// "refuse" the request or "tolerate" with a warning.
        missing_controllers: MissingControllers = MissingControllers::Refuse,

        /// Keep berthd's own oom_score_adj when a lower one is asked for and
        /// refused by the kernel (berthd without CAP_SYS_RESOURCE).
        restrict_oom_score_adj: bool = false,

        /// Longest line in a container's log; a longer one is split and marked
        /// as partial.
        log_line_max: Size = Size::kib(16),

        /// Capabilities of a container that asks for none in particular.
        default_capabilities: Vec<Capability> = default_capabilities(),

        /// A seccomp profile, as JSON, in place of the built-in one for containers
        /// that ask for the runtime's default. Read when a container is created.
        /// Empty: the built-in one.
        seccomp_profile: Option<PathBuf> = None,

        /// Let processes in a pod's own network bind ports below 1024.
        enable_unprivileged_ports: bool = true,

        /// Let processes in a pod's own network send pings.
        enable_unprivileged_icmp: bool = true,
    }
}

section! {
    /// Another OCI runtime (runc, crun, youki and the like), for pods whose
    /// RuntimeClass names it as their handler. A table for each:
    /// [runtimes.NAME].
    Foreign = "runtimes.NAME" {
        /// Path of its program.
        path: Option<PathBuf> = None,

        /// Its global options, before those that berthd gives it.
        args: Vec<String> = Vec::new(),

        /// Where it keeps the state of its containers, on a tmpfs. Empty:
        /// runtimes/NAME below `state`.
        root: Option<PathBuf> = None,
    }
}

section! {
    /// How long an operation may take. A client that leaves earlier does not
    /// stop it; when it asks again it gets the same result.
    Timeouts = "timeouts" {
        /// RunPodSandbox.
        pod_start: Timeout = Timeout::minutes(4),

        /// StopPodSandbox.
        pod_stop: Timeout = Timeout::minutes(2),

        /// RemovePodSandbox.
        pod_remove: Timeout = Timeout::minutes(2),

        /// CreateContainer.
        container_create: Timeout = Timeout::minutes(2),

        /// StartContainer.
        container_start: Timeout = Timeout::minutes(2),

        /// UpdateContainerResources.
        container_update: Timeout = Timeout::minutes(2),

        /// StopContainer, beyond the time that the request gives the container.
        stop_margin: Timeout = Timeout::minutes(1),

        /// RemoveContainer.
        container_remove: Timeout = Timeout::minutes(2),

        /// ExecSync, beyond the time that the request gives the command.
        exec_margin: Timeout = Timeout::seconds(2),

        /// How long the output of a command of ExecSync is read on after it has
        /// ended, when children of it still hold it.
        exec_drain: Duration = Duration::from_secs(10),

        /// PullImage, however fast it is. See also `stall_timeout`.
        pull: Timeout = Timeout::minutes(120),

        /// What an operation past its deadline gets to undo its work.
        rollback: Timeout = Timeout::seconds(10),

        /// What operations in flight get when berthd is told to stop.
        shutdown: Timeout = Timeout::seconds(8),
    }
}

section! {
    /// Prometheus metrics of berthd itself.
    Metrics = "metrics" {
        /// Address of the HTTP endpoint /metrics, as in "127.0.0.1:9810".
        /// Empty: off.
        listen: Option<SocketAddr> = None,
    }
}

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

/// Ours, then those of other engines, so that files can stay where they are.
fn certs_dirs() -> Vec<PathBuf> {
    ["berth", "containerd", "containers", "docker"]
        .map(|engine| format!("/etc/{engine}/certs.d").into())
        .to_vec()
}

/// What containerd gives, so that images behave the same on both.
fn default_capabilities() -> Vec<Capability> {
    let names = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    names.map(Capability::named).to_vec()
}
