//! Names of registries, without the C library: berthd is a static binary, and glibc's resolver
//! would load shared objects of the host into it.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

/// Resolves by `/etc/hosts` and the servers of `/etc/resolv.conf`, as they are at its first use.
/// Without a usable `resolv.conf` names do not resolve; no other server is asked instead.
#[derive(Debug, Default)]
pub(super) struct SystemDns {
    resolver: std::sync::Arc<OnceCell<TokioResolver>>,
}

impl Resolve for SystemDns {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = std::sync::Arc::clone(&self.resolver);
        Box::pin(async move {
            let resolver = resolver
                .get_or_try_init(async || {
                    let mut builder = TokioResolver::builder_tokio()?;
                    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
                    builder.build()
                })
                .await?;
            let found = resolver.lookup_ip(name.as_str()).await.map_err(|error| {
                if error.is_nx_domain() || error.is_no_records_found() {
                    return format!("there is no host {}", name.as_str()).into();
                }
                let text = format!("look up the address of {}: {error}", name.as_str());
                Box::<dyn std::error::Error + Send + Sync>::from(text)
            })?;
            // The connector replaces port 0.
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
