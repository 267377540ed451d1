//! A node as most tests want it: a daemon with a bridge network, a registry, and busybox pulled.

use anyhow::Result;

use crate::audit::{Audit, Scope};
use crate::client::Client;
use crate::daemon::{Daemon, Engine, Setup};
use crate::image::Image;
use crate::network;
use crate::place::Place;
use crate::registry::Registry;

/// A daemon and what it needs around it.
#[derive(Debug)]
pub struct Node {
    /// The daemon under test.
    pub daemon: Daemon,
    /// A connection to it; [`Node::kill_and_restart`] renews it.
    pub client: Client,
    /// The registry that the daemon pulls from.
    pub registry: Registry,
    /// The reference of a busybox image that the daemon has.
    pub image: String,
}

impl Node {
    /// A node with the network `e2e1`: masquerading and port mappings.
    pub async fn start(place: &Place, engine: Engine) -> Result<Self> {
        let network = network::bridge(1).masquerade().port_mappings().install(place)?;
        Self::start_with(place, Setup::new(engine).network(&network)).await
    }

    /// A node whose daemon is set up as the test wants it.
    pub async fn start_with(place: &Place, setup: Setup) -> Result<Self> {
        let registry = Registry::start(place).await?;
        let image = registry.push("busybox:1", &Image::busybox()?.build()?).await?;
        let daemon = setup.host(registry.host(), registry.upstream()).start(place).await?;
        let client = daemon.client().await?;
        client.pull(&image).await?;
        Ok(Self { daemon, client, registry, image })
    }

    /// Begins an audit of all that the daemon could leave behind.
    pub fn audit(&self) -> Result<Audit> {
        Audit::begin(Scope::of(&self.daemon))
    }

    /// kill -9, then a new start on the same directories.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.daemon.kill().await?;
        self.daemon.start().await?;
        self.client = self.daemon.client().await?;
        Ok(())
    }
}
