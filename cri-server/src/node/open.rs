//! Opening a node: the libraries in the order of their dependencies, then what
//! an earlier berthd has left.
//!
//! ```text
//! cgroups ─► shims ─► networks ─► pods ─► containers ─► images ─► operations
//!                                  └ recover ┘            └ release, adopt
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use berth_imageservice::{Images, NodeCredentials, SnapshotKey, Stall, TrustConfig, Verifiers};
use berth_metrics::Metrics;
use berth_runtime::cgroup::systemd::Systemd;
use berth_runtime::cgroup::{Hierarchy, MissingControllers};
use berth_runtime::containers::Containers;
use berth_runtime::launcher::Launcher;
use berth_runtime::record::Syncer;
use berth_sandbox::{Sandboxes, network};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Loaded};
use crate::error::Error;
use crate::ops::Ops;
use crate::rpc::identity;

use super::background::Background;
use super::origin::{ContainerOrigin, SandboxOrigin};
use super::{CpuSamples, Handlers, Making, Node};

/// Longest time from the clone of a process to its `execve`, mounts included.
const START_WITHIN: Duration = Duration::from_secs(60);

/// Where a shim is looked for that is not beside berthd.
const LIBEXEC: &str = "/usr/libexec/berth";

impl Node {
    /// Opens everything and finds again what runs.
    ///
    /// # Errors
    /// When the host lacks something that berthd cannot do without. A damaged
    /// record is no reason: it is set aside.
    pub async fn open(loaded: Loaded, metrics: Metrics) -> Result<Self, Error> {
        let config = &loaded.config;
        let background = Background::default();
        let syncer = Syncer::start(&background.syncing, background.stop.clone());
        let hierarchy = hierarchy(config)?;
        let launcher = Launcher::load(&shim(config), background.tasks.clone())
            .map_err(Error::set_up("the shim"))?;
        let (sandboxes, containers) =
            objects(config, &hierarchy, launcher.clone(), &syncer, &background)?;
        let images = images(config).await?;
        let handlers = Handlers::open(config, &launcher).await;
        let ops = Ops::new(config.timeouts.rollback.get(), metrics.clone());
        let node = Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            ops,
            metrics,
            started_at: SystemTime::now(),
            stopping: CancellationToken::new(),
            hierarchy,
            images,
            sandboxes,
            handlers,
            containers,
            apparmor: berth_runtime::apparmor::Default::default(),
            making: Making::default(),
            cpu_samples: CpuSamples::default(),
            background,
            loaded,
        };
        node.recover().await?;
        Ok(node)
    }

    /// Ends what runs beside requests. Containers do not notice.
    pub async fn close(&self) {
        self.images.shutdown().await;
        self.background.end().await;
    }

    async fn recover(&self) -> Result<(), Error> {
        let pods = self.sandboxes.recover().await.map_err(Error::set_up("the sandboxes"))?;
        self.containers.recover(&pods).await.map_err(Error::set_up("the containers"))?;
        self.release_snapshots().await;
        // Nobody has the id of what remains of one that was never made.
        for sandbox in self.sandboxes.list().iter().filter(|sandbox| !sandbox.state().remains) {
            let request = SandboxOrigin::of(&sandbox.spec.origin);
            if let Ok((key, fingerprint)) = identity::of_sandbox(&request) {
                self.ops.adopt(key, fingerprint, &sandbox.spec.id);
            }
        }
        for container in self.containers.list() {
            let (request, _) = ContainerOrigin::of(&container.spec.origin);
            if let Ok((key, fingerprint)) = identity::of_container(&request) {
                self.ops.adopt(key, fingerprint, &container.spec.id);
            }
        }
        let (sandboxes, containers) = (self.sandboxes.list().len(), self.containers.list().len());
        tracing::info!(sandboxes, containers, "recovered");
        Ok(())
    }

    /// Writable layers whose container was not made to the end, or is gone.
    async fn release_snapshots(&self) {
        let live: HashSet<SnapshotKey> =
            self.containers.ids().iter().filter_map(|id| id.parse().ok()).collect();
        for snapshot in self.images.snapshots() {
            if !live.contains(&snapshot.key)
                && let Err(error) = self.images.release(&snapshot.key).await
            {
                tracing::warn!(snapshot = %snapshot.key, %error, "it is not released, ignoring");
            }
        }
    }
}

fn hierarchy(config: &Config) -> Result<Hierarchy, Error> {
    let missing = match config.runtime.missing_controllers {
        config::MissingControllers::Refuse => MissingControllers::Refuse,
        config::MissingControllers::Tolerate => MissingControllers::Tolerate,
    };
    let owner = config.dirs.state.to_string_lossy();
    Hierarchy::open(&config.runtime.cgroup_root, &owner, missing).map_err(Error::set_up("cgroups"))
}

fn networks(config: &config::Cni) -> network::Settings {
    network::Settings {
        conf_dirs: config.conf_dirs.clone(),
        bin_dirs: config.bin_dirs.clone(),
        cache_dir: config.cache_dir.clone(),
        plugin_timeout: config.plugin_timeout.get(),
        max_concurrent: config.max_concurrent.get(),
        ..network::Settings::default()
    }
}

fn objects(
    config: &Config,
    hierarchy: &Hierarchy,
    launcher: Launcher,
    syncer: &Syncer,
    background: &Background,
) -> Result<(Sandboxes, Containers), Error> {
    let dirs = &config.dirs;
    let attach = dirs.state.join("attach");
    let Background { tasks, stop, .. } = background;
    let settings = berth_runtime::containers::Settings {
        records: dirs.root.join("containers"),
        attach: attach.clone(),
        bundles: dirs.state.join("bundles"),
        start_within: START_WITHIN,
        drain_within: config.timeouts.exec_drain,
        log_line_max: u32::try_from(config.runtime.log_line_max.bytes()).unwrap_or(u32::MAX),
        oom_score_adj_best_effort: config.runtime.restrict_oom_score_adj,
    };
    let containers = Containers::open(settings, hierarchy.clone(), syncer, tasks.clone())
        .map_err(Error::set_up("the containers"))?;
    let settings = berth_sandbox::Settings {
        records: dirs.root.join("sandboxes"),
        run: dirs.state.join("sandboxes"),
        attach,
        start_within: START_WITHIN,
        network_within: config.cni.network_wait,
        systemd: match config.runtime.cgroup_driver {
            config::CgroupDriver::Cgroupfs => None,
            config::CgroupDriver::Systemd => Some(Systemd::new(None)),
        },
        network: networks(&config.cni),
    };
    let hierarchy = hierarchy.clone();
    let sandboxes =
        Sandboxes::open(settings, hierarchy, launcher, syncer, tasks.clone(), stop.clone())
            .map_err(Error::set_up("the sandboxes"))?;
    Ok((sandboxes, containers))
}

async fn images(config: &Config) -> Result<Images, Error> {
    Images::open(image_settings(config)).await.map_err(Error::set_up("the images"))
}

fn image_settings(config: &Config) -> berth_imageservice::Config {
    let image = &config.image;
    let mut settings = berth_imageservice::Config::new(config.dirs.root.join("images"));
    settings.certs_dirs.clone_from(&image.certs_dirs);
    settings.registries_conf.clone_from(&image.registries_conf);
    settings.credentials = credentials(&config.credentials);
    settings.trust = trust(&config.trust);
    settings.parallel_layers = image.max_concurrent_downloads.get();
    settings.stall = Stall { window: image.stall_timeout.get(), ..Stall::default() };
    settings.deadline = config.timeouts.pull.get();
    settings.limits.layer = image.max_layer_size.bytes();
    settings.limits.archive = image.max_import_size.bytes();
    settings
}

fn credentials(config: &config::Credentials) -> NodeCredentials {
    NodeCredentials {
        auth_dirs: config.auth_dirs.clone(),
        helper_dirs: config.helper_dirs.clone(),
        provider_config: config.provider_config.clone(),
        provider_dirs: config.provider_dirs.clone(),
        timeout: config.timeout.get(),
    }
}

fn trust(config: &config::Trust) -> TrustConfig {
    let verifiers = config.verifier_dir.clone().map(|directory| Verifiers {
        directory,
        most: config.max_verifiers.get(),
        timeout: config.verifier_timeout.get(),
    });
    TrustConfig { policy_file: config.policy_file.clone(), verifiers }
}

/// The shim that is configured, the one beside this program, or the installed one.
fn shim(config: &Config) -> PathBuf {
    if let Some(path) = &config.runtime.shim {
        return path.clone();
    }
    let this = std::env::current_exe().unwrap_or_default();
    let beside = this.with_file_name("berth-shim");
    if beside.exists() { beside } else { Path::new(LIBEXEC).join("berth-shim") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn bounds_of_the_configuration_reach_those_who_keep_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let text = "version = 1\n[image]\nmax_concurrent_downloads = 7\nstall_timeout = \"8s\"\n\
                    max_layer_size = \"9MiB\"\nmax_import_size = \"10MiB\"\n\
                    [timeouts]\npull = \"11s\"\n\
                    [cni]\nmax_concurrent = 12\nplugin_timeout = \"13s\"\n";
        std::fs::write(&file, text).unwrap();
        let config = Sources { file: Some(file), drop_ins: None }.load().unwrap().config;

        let images = image_settings(&config);
        assert_eq!(images.parallel_layers, 7);
        assert_eq!(images.stall.window, Duration::from_secs(8));
        assert_eq!((images.limits.layer, images.limits.archive), (9 << 20, 10 << 20));
        assert_eq!(images.deadline, Duration::from_secs(11));
        let networks = networks(&config.cni);
        assert_eq!(networks.max_concurrent, 12);
        assert_eq!(networks.plugin_timeout, Duration::from_secs(13));
    }
}
