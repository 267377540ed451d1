//! Running a command in a container and waiting for it.

use k8s_cri::v1::ExecSyncRequest;
use tonic::Status;

use super::Container;

/// Seconds after which a command is given up.
const TIMEOUT: i64 = 60;

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout, made text.
    pub stdout: String,
    /// What it wrote to stderr, made text.
    pub stderr: String,
}

impl Container {
    /// `ExecSync`.
    pub async fn exec<const N: usize>(&self, words: [&str; N]) -> Result<Output, Status> {
        self.exec_for(TIMEOUT, words).await
    }

    /// `ExecSync` with a timeout in seconds; 0 is none.
    pub async fn exec_for<const N: usize>(
        &self,
        timeout: i64,
        words: [&str; N],
    ) -> Result<Output, Status> {
        let request = ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: words.map(str::to_owned).into(),
            timeout,
        };
        let answer = self.client.runtime().exec_sync(request).await?.into_inner();
        Ok(Output {
            code: answer.exit_code,
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
        })
    }

    /// Which namespace of a kind, such as `net`, it is in: comparable with
    /// [`crate::process::namespace`].
    pub async fn namespace(&self, kind: &str) -> anyhow::Result<String> {
        let link = self.shell(&format!("readlink /proc/self/ns/{kind}")).await?;
        Ok(link.trim_end().to_owned())
    }

    /// Runs a shell script in the container, which must end with 0, and answers its stdout.
    pub async fn shell(&self, script: &str) -> anyhow::Result<String> {
        let output = self.exec(["/bin/sh", "-c", script]).await?;
        anyhow::ensure!(output.code == 0, "`{script}` ended with {output:?}");
        Ok(output.stdout)
    }
}
