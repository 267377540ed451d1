//! A repository at a host, as keys of credentials name it.

use url::Url;

use crate::credentials::registry_host;

/// Where something is fetched, in the words in which credentials are filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    url: Url,
    /// Host, and port if it is not the usual one; Docker Hub goes by its first name.
    host: String,
    /// With the path that a mirror puts before the repository.
    path: String,
}

impl Place {
    /// The place of a repository below an API root such as `https://mirror.test/hub/v2/`.
    pub(crate) fn new(base: &Url, repository: &str) -> Self {
        let host = registry_host(base.host_str().unwrap_or_default());
        let host = base.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let before = base.path().trim_end_matches('/');
        let before = before.strip_suffix("/v2").unwrap_or(before).trim_start_matches('/');
        let path =
            if before.is_empty() { String::new() } else { format!("{before}/") } + repository;
        Self { url: base.clone(), host, path }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Host and port with the scheme: whom credentials for this place may be shown to.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.url.scheme(), self.host)
    }

    /// The whole name, `host/path`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// How long the part of this place's name is that a key names; `None` if it names another
    /// place. A key is `host[:port][/path]`, or a URL, of which only scheme, host and port count:
    /// `https://index.docker.io/v1/`.
    pub(super) fn fits(&self, key: &str) -> Option<usize> {
        let (scheme, rest) = match key.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, key),
        };
        if scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case(self.url.scheme())) {
            return None;
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_api = scheme.is_some() || matches!(path.trim_end_matches('/'), "v1" | "v2");
        let path = if is_api { "" } else { path.trim_end_matches('/') };
        let key = Url::parse(&format!("{}://{host}", self.url.scheme())).ok()?;
        let origin = |url: &Url| (url.host_str().map(registry_host), url.port_or_known_default());
        let is_below = |prefix: &str| {
            let rest = self.path.strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        (origin(&key) == origin(&self.url) && is_below(path)).then_some(path.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_hosts_or_what_is_below_them() {
        for (base, key, expected) in [
            ("https://r.test/v2/", "r.test", Some(0)),
            ("https://r.test/v2/", "R.test:443", Some(0)),
            ("https://r.test/v2/", "https://r.test/v2/", Some(0)),
            ("https://r.test/v2/", "http://r.test", None),
            ("https://r.test/v2/", "r.test/team", Some(4)),
            ("https://r.test/v2/", "r.test/team/app/", Some(8)),
            ("https://r.test/v2/", "r.test/tea", None),
            ("https://r.test/v2/", "r.test/team/app/x", None),
            ("https://r.test/v2/", "r.test.evil", None),
            ("https://r.test/v2/", "x.r.test", None),
            ("https://r.test:5000/v2/", "r.test", None),
            ("https://r.test:5000/v2/", "r.test:5000", Some(0)),
            ("http://r.test:5000/v2/", "r.test:5000", Some(0)),
            ("https://m.test/hub/v2/", "m.test/hub/team", Some(8)),
            ("https://m.test/hub/v2/", "m.test/team", None),
            ("https://registry-1.docker.io/v2/", "https://index.docker.io/v1/", Some(0)),
            ("https://registry-1.docker.io/v2/", "index.docker.io/v1", Some(0)),
            ("https://registry-1.docker.io/v2/", "docker.io/team", Some(4)),
            ("https://r.test/v2/", "", None),
            ("https://r.test/v2/", "a b", None),
        ] {
            let place = Place::new(&Url::parse(base).unwrap(), "team/app");
            assert_eq!(place.fits(key), expected, "{base} {key}");
        }
    }
}
