//! The record of an attachment, in libcni's format and place:
//! `<cache dir>/results/<network>-<container id>-<interface>`, JSON of kind
//! `cniCacheV1`. `cnitool` or another runtime can delete what we added, and we
//! what they did.
//!
//! The record is what a DEL needs, so it is written twice:
//!
//! - before the first plugin runs, without `result`: a DEL is *owed*, for any
//!   part of the chain may have run. libcni reads a record without `result` as
//!   one with an empty result and runs its DEL all the same;
//! - after the last plugin, with `result`.
//!
//! It is removed when every plugin has done its DEL, so at no point can a
//! crash leave something on the node that no record names. Each write is a
//! rename, so a reader sees one whole record or the other. Nothing is synced:
//! a power cut may take the writes of the last seconds.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::attachment::Args;
use crate::capability::Capabilities;
use crate::error::{Error, Result};
use crate::name::LONGEST_FILE_NAME;

const KIND: &str = "cniCacheV1";

/// The directory that holds the records.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

/// One record. Field names and order are libcni's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) kind: String,
    pub(crate) container_id: String,
    /// The network's configuration in list form.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub(crate) config: Vec<u8>,
    pub(crate) if_name: String,
    pub(crate) network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cni_args: Option<Args>,
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub(crate) capability_args: Capabilities,
    /// Absent while the chain runs, and after it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Map<String, Value>>,
}

/// A file among the records.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// `None` if the file is no record, for example empty after a power cut.
    pub(crate) record: Option<Record>,
}

impl Entry {
    /// Whether its ADD did not come to its end, as far as one can tell.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.result.is_none())
    }
}

impl Record {
    pub(crate) fn new(container_id: &str, network: &str, ifname: &str) -> Self {
        Self {
            kind: KIND.into(),
            container_id: container_id.into(),
            config: Vec::new(),
            if_name: ifname.into(),
            network_name: network.into(),
            netns: String::new(),
            cni_args: None,
            capability_args: Capabilities::default(),
            result: None,
        }
    }

    fn file_name(&self) -> String {
        format!("{}-{}-{}", self.network_name, self.container_id, self.if_name)
    }
}

impl Cache {
    pub(crate) fn new(cache_dir: &Path) -> Self {
        Self { dir: cache_dir.join("results") }
    }

    /// Writes the record for the first time.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if there is one, [`Error::Argument`] if the names
    /// are too long together, [`Error::Cache`].
    pub(crate) fn create(&self, record: &Record) -> Result<()> {
        let name = record.file_name();
        if name.len() > LONGEST_FILE_NAME {
            let what = "network name and container id";
            return Err(Error::Argument { what, value: name, why: "are too long together" });
        }
        if self.dir.join(name).exists() {
            return Err(Error::AlreadyAttached {
                container_id: record.container_id.clone(),
                network: record.network_name.clone(),
                ifname: record.if_name.clone(),
            });
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("create the directory of attachment records", &self.dir))?;
        self.write(record)
    }

    /// Writes the record, over the one that is there.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let path = self.dir.join(record.file_name());
        let draft = self.dir.join(draft_name(&record.container_id, &record.if_name));
        let write = || -> io::Result<()> {
            let mut open = fs::OpenOptions::new();
            let mut file = open.create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            fs::rename(&draft, &path)
        };
        write().map_err(failed("write the attachment record", &path))
    }

    /// The records of one container's interface, whatever their network. A
    /// file that is no record counts by its name.
    pub(crate) fn find(&self, container_id: &str, ifname: &str) -> Result<Vec<Entry>> {
        let end = format!("-{container_id}-{ifname}");
        let mut entries = self.read(|name| name.len() > end.len() && name.ends_with(&end))?;
        entries.retain(|entry| {
            let record = entry.record.as_ref();
            record.is_none_or(|record| {
                record.container_id == container_id && record.if_name == ifname
            })
        });
        Ok(entries)
    }

    /// All records.
    pub(crate) fn all(&self) -> Result<Vec<Entry>> {
        self.read(|_| true)
    }

    /// Removes the records of one container's interface, and what an
    /// interrupted write may have left.
    pub(crate) fn remove(
        &self,
        container_id: &str,
        ifname: &str,
        records: &[PathBuf],
    ) -> Result<()> {
        let draft = self.dir.join(draft_name(container_id, ifname));
        for path in records.iter().chain([&draft]) {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove the attachment record", path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
        let failed_here = |e| failed("read the directory of attachment records", &self.dir)(e);
        let files = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(failed_here)?,
        };
        let mut entries = Vec::new();
        for file in files {
            let name = file.map_err(failed_here)?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || !wanted(&name) {
                continue;
            }
            let path = self.dir.join(&*name);
            let text = match fs::read(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                text => text.map_err(failed("read the attachment record", &path))?,
            };
            let record = serde_json::from_slice(&text).ok();
            let record = record.filter(|record: &Record| record.kind == KIND);
            entries.push(Entry { path, record });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

/// The name under which a record is written before it is renamed. Neither part
/// can hold a colon, so no two attachments share it.
fn draft_name(container_id: &str, ifname: &str) -> String {
    format!(".{container_id}:{ifname}.tmp")
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { action, path, source }
}

fn to_base64<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{PortMapping, Protocol};

    /// As libcni 1.x writes it, for the arguments of [`record`].
    const GOLDEN: &str = include_str!("../tests/golden/cni-cache-v1.json");

    fn record() -> Record {
        let config = br#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]}"#;
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
        });
        Record {
            config: config.to_vec(),
            netns: "/run/netns/a".into(),
            cni_args: Some(vec![
                ("IgnoreUnknown".into(), "1".into()),
                ("K8S_POD_NAME".into(), "web-0".into()),
            ]),
            capability_args: Capabilities::default().port_mappings(&[PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
            }]),
            result: result.as_object().cloned(),
            ..Record::new("c1", "pods", "eth0")
        }
    }

    #[test]
    fn a_record_is_libcnis_json() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(serde_json::to_value(record()).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Record>(GOLDEN).unwrap(), record());
    }

    #[test]
    fn an_owed_record_has_no_result() {
        let owed = Record { result: None, ..record() };
        let json: Value = serde_json::to_value(&owed).unwrap();
        assert!(json.get("result").is_none());
        assert_eq!(json["kind"], "cniCacheV1");
    }

    #[test]
    fn records_are_private_found_by_container_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert!(cache.find("c1", "eth0").unwrap().is_empty());

        cache.create(&record()).unwrap();
        let path = dir.path().join("results/pods-c1-eth0");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(cache.create(&record()), Err(Error::AlreadyAttached { .. })));

        cache.create(&Record::new("b-c1", "pods", "eth0")).unwrap();
        let found = cache.find("c1", "eth0").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].path, found[0].record.as_ref()), (&path, Some(&record())));

        cache.remove("c1", "eth0", std::slice::from_ref(&path)).unwrap();
        cache.remove("c1", "eth0", &[path]).unwrap();
        assert_eq!(cache.all().unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_no_record_counts_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        fs::create_dir(dir.path().join("results")).unwrap();
        fs::write(dir.path().join("results/pods-c1-eth0"), "").unwrap();
        let found = cache.find("c1", "eth0").unwrap();
        assert!(matches!(found.as_slice(), [Entry { record: None, .. }]));
    }

    #[test]
    fn names_that_make_no_file_name_are_refused_before_anything_runs() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(&"c".repeat(200), &"n".repeat(200), "eth0");
        assert!(matches!(Cache::new(dir.path()).create(&record), Err(Error::Argument { .. })));
    }
}
