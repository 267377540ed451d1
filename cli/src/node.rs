//! The node, as two sockets: [`Cri`] for what every runtime answers, [`Admin`] for what only
//! berthd does.
//!
//! A socket is connected to when a command needs it, so that a command that needs one of them
//! works without the other.

mod address;
mod admin;
mod connect;
mod cri;
mod line;

use std::time::Duration;

pub(crate) use address::Address;
pub(crate) use admin::{Admin, Answers};
pub(crate) use cri::Cri;
pub(crate) use line::Refused;

use connect::{Socket, connect};
use line::Line;

/// Where the node's sockets are, and how long to wait for answers.
#[derive(Debug)]
pub(crate) struct Node {
    /// The CRI socket.
    pub(crate) cri: Address,
    /// The admin socket.
    pub(crate) admin: Address,
    /// The longest wait for one answer, if the person has set one.
    pub(crate) timeout: Option<Duration>,
}

impl Node {
    /// Connects to the CRI socket.
    pub(crate) async fn cri(&self) -> anyhow::Result<Cri> {
        let channel = connect(&self.cri, Socket::Cri).await?;
        Ok(Cri::new(channel, Line { address: self.cri.clone(), timeout: self.timeout }))
    }

    /// Connects to the admin socket.
    pub(crate) async fn admin(&self) -> anyhow::Result<Admin> {
        let channel = connect(&self.admin, Socket::Admin).await?;
        Ok(Admin::new(channel, Line { address: self.admin.clone(), timeout: self.timeout }))
    }
}
