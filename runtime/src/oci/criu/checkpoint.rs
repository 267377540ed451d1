//! `checkpoint`: a container's processes, saved to files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Storing as _};

use super::super::Runtime;
use super::super::record::{Record, Status};
use super::{Call, Criu, check, external, make, text};

/// A container to save.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Its id.
    pub id: String,
    /// How, and where to.
    pub criu: Criu,
    /// Whether it runs on.
    pub leave_running: bool,
    /// Whether only its memory is saved, and what of it changes is taken note of: it runs on.
    pub pre_dump: bool,
    /// Images of a `pre_dump`, whose memory is not saved again; relative to the images.
    pub parent: Option<PathBuf>,
}

impl Runtime {
    /// Saves the processes of a container that runs, and deletes it unless it is to run on. If
    /// that fails, it runs on in any case.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it runs, [`Error::Spec`] for what cannot be saved,
    /// [`Error::Criu`].
    pub fn checkpoint(&self, request: &Checkpoint) -> Result<(), Error> {
        request.criu.find()?;
        let _hold = self.hold(&request.id)?;
        let record = self.load(&request.id)?;
        let status = self.status(&record)?;
        let pid = record.process.filter(|_| status == Status::Running).map(|life| life.pid);
        let pid = pid.ok_or_else(|| Error::WrongState {
            id: request.id.clone(),
            state: status.name(),
            verb: "checkpoint it",
        })?;
        check(&record.spec)?;
        let images = request.criu.images()?;
        let new = make(&images)?;
        if let Err(error) = self.dump(request, &record, pid, &images) {
            if new {
                // The first error is the one that matters.
                let _ = fs::remove_dir_all(&images);
            }
            return Err(error);
        }
        if request.leave_running || request.pre_dump {
            return Ok(());
        }
        self.tear_down(&record)
    }

    fn dump(
        &self,
        request: &Checkpoint,
        record: &Record,
        pid: i32,
        images: &Path,
    ) -> Result<(), Error> {
        let verb = if request.pre_dump { "pre-dump" } else { "dump" };
        let mut call = request.criu.call(verb, images)?;
        call.push(["--tree".to_owned(), pid.to_string()]);
        call.push(["--freeze-cgroup".to_owned(), text(self.hierarchy()?.path(&record.cgroup))?]);
        if request.pre_dump || request.parent.is_some() {
            call.push(["--track-mem".to_owned()]);
        }
        if let Some(parent) = &request.parent {
            if parent.is_absolute() || !images.join(parent).is_dir() {
                let text =
                    format!("--parent-path {parent:?} is no directory relative to the images");
                return Err(Error::Spec(text));
            }
            call.push(["--prev-images-dir".to_owned(), text(parent)?]);
        }
        if !request.pre_dump {
            tell_of_the_rest(&mut call, record, pid, images)?;
            call.push(request.leave_running.then(|| "--leave-running".to_owned()));
        }
        let mut command = Command::new(&call.program);
        command.args(&call.words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().storing("start", &call.program)?;
        if status.success() { Ok(()) } else { Err(call.failed(&status.to_string())) }
    }
}

/// What is not the container's own.
fn tell_of_the_rest(
    call: &mut Call,
    record: &Record,
    pid: i32,
    images: &Path,
) -> Result<(), Error> {
    let mut external = Vec::new();
    for (place, _) in external::mounts(&record.spec, &record.rootfs) {
        external.push(format!("mnt[{place}]:{place}"));
    }
    for (path, key) in external::namespaces(&record.spec)? {
        external.push(external::namespace_word(&path, key)?);
    }
    let streams = external::streams(pid)?;
    external.extend(streams.iter().filter(|stream| stream.starts_with("file[")).cloned());
    external::save(images, &streams)?;
    call.push(external.into_iter().flat_map(|key| ["--external".to_owned(), key]));
    Ok(())
}
