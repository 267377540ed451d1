//! What the crate does as a whole, against registries and archives that these tests make up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod coalesce;
mod confinement;
mod damage;
mod differential;
mod export;
mod hostile_archives;
mod hostile_layers;
mod http2;
mod import;
mod layers;
mod mirrors;
mod partial;
mod pull;
mod push;
mod random_layers;
mod registry_auth;
mod registry_faults;
mod removal;
mod restart;
mod resume;
mod snapshots;
mod space;
mod support;
mod tls;
