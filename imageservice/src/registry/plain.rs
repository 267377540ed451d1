//! Whether a host that need not have TLS has it: it is asked, before anything is shown to it.

use std::time::Duration;

use tokio::time::timeout;

use super::hosts::Host;
use super::http;

/// For the answer to a request that any registry answers at once.
const PROBE: Duration = Duration::from_secs(10);

/// Takes TLS from hosts that may be plain and answer without it only.
pub(super) async fn settle(mut hosts: Vec<Host>) -> Vec<Host> {
    for host in hosts.iter_mut().filter(|host| host.may_be_plain) {
        if answers(host).await {
            continue;
        }
        let mut plain = host.clone();
        if plain.base.set_scheme("http").is_ok() && answers(&plain).await {
            *host = plain;
        }
    }
    hosts
}

/// Whether there is an answer of any kind.
async fn answers(host: &Host) -> bool {
    let Ok(client) = http::own_client(host) else { return false };
    matches!(timeout(PROBE, client.get(host.base.clone()).send()).await, Ok(Ok(_)))
}
