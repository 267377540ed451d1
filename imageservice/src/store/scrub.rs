//! Reading all that is here again, and comparing it with what it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::catalog::LayerRecord;
use super::publish::{ImageRecord, NameRecord};
use super::record::{self, Durability, sync_directory};
use super::recover::paths;
use super::repair::{Damage, read_seal};
use super::{Store, locked};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::seal;

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is: `layer DIGEST`, `record of image ID`, …
    pub object: String,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// Ids of the images that need it.
    pub images: Vec<String>,
    /// Whether it was made good: a record is written anew; a damaged layer is gone with its images,
    /// and comes again with the next pull.
    pub is_repaired: bool,
}

impl Store {
    /// Reads every layer and every record. Layers that have no seal yet get one. Blocks, for as long
    /// as it takes to read everything.
    pub(crate) fn scrub(
        self: &Arc<Self>,
        repair: bool,
        cancel: &CancellationToken,
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for number in self.published() {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled { what: "scrub images".to_owned() });
            }
            findings.extend(self.scrub_layer(number, repair)?);
        }
        let images: Vec<Arc<Image>> = self.list();
        for image in images {
            findings.extend(self.scrub_records(&image, repair)?);
        }
        for path in paths(&self.layout.quarantine())? {
            if repair {
                self.janitor.discard(path.clone());
            }
            findings.push(Finding {
                object: "what was set aside at a start".to_owned(),
                path,
                problem: "it was not understood".to_owned(),
                images: Vec::new(),
                is_repaired: repair,
            });
        }
        Ok(findings)
    }

    fn published(&self) -> Vec<u64> {
        let catalog = self.read();
        let published = catalog.layers().filter(|(_, layer)| layer.is_published);
        published.map(|(number, _)| *number).collect()
    }

    fn scrub_layer(self: &Arc<Self>, number: u64, repair: bool) -> Result<Option<Finding>> {
        // Held, so that it does not go while it is read.
        let Some(lease) = self.lease_number(number) else { return Ok(None) };
        let Some(known) = self.read().layer(number).map(|layer| layer.record.clone()) else {
            return Ok(None);
        };
        let path = self.layout.layer(number);
        let finding = |problem: String, images, is_repaired| Finding {
            object: format!("layer {}", known.diff_id),
            path: path.clone(),
            problem,
            images,
            is_repaired,
        };
        if let Some(reason) = self.compare(number, &path) {
            let damage = [Damage { number, reason }];
            let images = self.images_on(&damage);
            let images = images.iter().map(|image| image.id().to_string()).collect();
            if repair {
                self.condemn(&damage)?;
            }
            drop(lease);
            let [Damage { reason, .. }] = damage;
            return Ok(Some(finding(reason, images, repair)));
        }
        let file = path.join("layer.json");
        match record::read::<LayerRecord>(&file) {
            Ok(found) if found == known => Ok(None),
            found => {
                if repair {
                    record::stage(&file, &known, Durability::Synced)?.commit()?;
                    sync_directory(&path)?;
                }
                Ok(Some(finding(of_record(found.err()), Vec::new(), repair)))
            }
        }
    }

    /// Reads a layer; tells what is wrong with it.
    fn compare(&self, number: u64, path: &Path) -> Option<String> {
        let expected = read_seal(path);
        let Some(expected) = expected else {
            self.seal(number, path);
            return self.look_at(&[number]).pop().map(|damage| damage.reason);
        };
        match seal::seal(&path.join("fs")) {
            Err(error) => Some(format!("its tree cannot be read: {error}")),
            Ok(found) if found != expected => Some(found.differs_from(&expected)),
            Ok(_) => None,
        }
    }

    fn scrub_records(&self, image: &Arc<Image>, repair: bool) -> Result<Vec<Finding>> {
        let _commit = locked(&self.commit);
        if self.read().image(image.id()).is_none() {
            return Ok(Vec::new());
        }
        let mut findings = Vec::new();
        let mut check = |object: String, path: PathBuf, problem: String| {
            let images = vec![image.id().to_string()];
            findings.push(Finding { object, path, problem, images, is_repaired: repair });
        };
        let path = self.layout.image(image.id());
        let expected = ImageRecord::of(&image.core);
        let found = record::read::<ImageRecord>(&path);
        if !found.as_ref().is_ok_and(|found| *found == expected) {
            if repair {
                record::stage(&path, &expected, Durability::Synced)?.commit()?;
                sync_directory(&self.layout.images())?;
            }
            check(format!("record of image {}", image.id()), path, of_record(found.err()));
        }
        for name in self.read().names_of(image.id()) {
            let path = self.layout.name(&name);
            let expected =
                NameRecord { version: 1, name: name.to_string(), image: image.id().clone() };
            let found = record::read::<NameRecord>(&path);
            if !found.as_ref().is_ok_and(|found| *found == expected) {
                if repair {
                    record::stage(&path, &expected, Durability::Synced)?.commit()?;
                    sync_directory(&self.layout.names())?;
                }
                check(format!("record of name {name}"), path, of_record(found.err()));
            }
        }
        Ok(findings)
    }
}

fn of_record(error: Option<std::io::Error>) -> String {
    match error {
        Some(error) => format!("its record cannot be read: {error}"),
        None => "its record says something else".to_owned(),
    }
}
