//! The attachments on record, and how to ask for their DEL.

use std::path::{Path, PathBuf};

use crate::attachment::Attachment;
use crate::cache::{Cache, Record};
use crate::error::Result;

/// An attachment on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The container.
    pub container_id: String,
    /// The interface in the container.
    pub ifname: String,
    /// The network's name.
    pub network: String,
    /// The namespace that the container had at its ADD.
    pub netns: Option<PathBuf>,
    /// Whether the ADD ran to its end.
    pub complete: bool,
}

impl Owed {
    /// What [`crate::Cni::del`] takes to undo it. The namespace is left out if
    /// its path names a process: that number may be another's by now.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the record holds names that no ADD takes.
    pub fn attachment(&self) -> Result<Attachment> {
        let attachment = Attachment::new(&self.container_id, &self.ifname)?;
        match self.netns.as_deref().filter(|path| !path.starts_with("/proc")) {
            Some(netns) => attachment.netns(netns),
            None => Ok(attachment),
        }
    }
}

/// All attachments on record. Files that are no records are left out; the
/// audit reports them.
pub(crate) fn list(cache: &Cache) -> Result<Vec<Owed>> {
    let records = cache.all()?.into_iter().filter_map(|entry| entry.record);
    Ok(records.map(Owed::from).collect())
}

impl From<Record> for Owed {
    fn from(record: Record) -> Self {
        Self {
            netns: Some(record.netns)
                .filter(|path| Path::new(path).is_absolute())
                .map(PathBuf::from),
            container_id: record.container_id,
            ifname: record.if_name,
            network: record.network_name,
            complete: record.result.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_named_by_a_process_is_not_trusted() {
        let mut record = Record::new("c1", "pods", "eth0");
        record.netns = "/proc/42/ns/net".into();
        let owed = Owed::from(record.clone());
        assert_eq!(owed.attachment().unwrap().netns, None);

        record.netns = "/run/netns/a".into();
        let owed = Owed::from(record);
        assert_eq!(owed.attachment().unwrap().netns.as_deref(), Some(Path::new("/run/netns/a")));
        assert!(!owed.complete);
    }
}
