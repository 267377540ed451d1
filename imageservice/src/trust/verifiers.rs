//! Verifier programs by the convention of containerd's `bindir` image verifiers: every file of a
//! directory is called with the image's name and digest, its descriptor on standard input, and all
//! of them have to end with status 0. What they say on standard output is the reason.
//!
//! Stricter than containerd in two points, because what cannot be asked has not agreed: a directory
//! that is not there refuses every image, and so do more programs than may be called.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::record::Description;
use crate::digest::Digest;
use crate::program::Call;

const DESCRIPTOR: &str = "application/vnd.oci.descriptor.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// How much of a reason is passed on.
const REASON: usize = 1 << 10;

/// Programs that decide about images.
#[derive(Debug, Clone)]
pub struct Verifiers {
    /// Each file in it is one.
    pub directory: PathBuf,
    /// The most that there may be.
    pub most: usize,
    /// The longest that one may take.
    pub timeout: Duration,
}

/// A verifier as it is now; another one when its file changes.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    _version: (u64, u64, i64, i64),
}

impl Verifiers {
    /// The programs, by name.
    pub(super) fn list(&self) -> Result<Vec<Program>, String> {
        let failed = |error: std::io::Error| {
            format!("image verifiers in {}: {error}", self.directory.display())
        };
        let mut programs = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let it = path.metadata().map_err(failed)?;
            let version = (it.ino(), it.size(), it.ctime(), it.ctime_nsec());
            programs.push(Program { path, _version: version });
        }
        if programs.len() > self.most {
            let (found, most) = (programs.len(), self.most);
            let directory = self.directory.display();
            return Err(format!("{found} image verifiers in {directory}, {most} may be called"));
        }
        programs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(programs)
    }

    /// Asks all of them.
    pub(super) async fn ask(
        &self,
        programs: &[Program],
        name: &str,
        digest: &Digest,
        described: &Description,
    ) -> Result<(), String> {
        let media_type = match described.media_type.as_str() {
            "" => MANIFEST,
            known => known,
        };
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": described.size});
        for program in programs {
            let arguments =
                ["-name", name, "-digest", digest.as_str(), "-stdin-media-type", DESCRIPTOR];
            let call = Call {
                path: &program.path,
                arguments: arguments.iter().map(Into::into).collect(),
                environment: Vec::new(),
                stdin: descriptor.to_string().into_bytes(),
                deadline: self.timeout,
                limit: REASON,
            };
            let ended = call.run().await.map_err(|reason| format!("image verifier: {reason}"))?;
            let path = program.path.display();
            if !ended.stderr.is_empty() {
                tracing::debug!(verifier = %path, "{}", ended.stderr);
            }
            if !ended.status.success() {
                let said = String::from_utf8_lossy(&ended.stdout);
                let cut = if ended.is_cut { "…" } else { "" };
                let status = ended.status;
                return Err(format!(
                    "image verifier {path} refuses it ({status}): {}{cut}",
                    said.trim()
                ));
            }
        }
        Ok(())
    }
}
