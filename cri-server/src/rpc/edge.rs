//! What every request passes, whichever it is: a span with its method and its
//! client, the clock, the counters, the net under a panic, and the one log
//! line when it fails.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use berth_metrics::Metrics;
use futures_util::FutureExt;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;
use tracing::field::Empty;

use crate::status::code_name;

/// A request on its way in: what a handler may know besides its message.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The RPC, as in `RunPodSandbox`.
    pub method: &'static str,
    /// Who asked.
    pub peer: Option<Peer>,
}

/// The process at the other end, as the kernel saw it connect (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its process id, unless it lives in another pid namespace.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Answers a request by `handler`.
pub(crate) async fn answer<Req, Res, F, H>(
    metrics: &Metrics,
    method: &'static str,
    request: Request<Req>,
    handler: H,
) -> Result<Response<Res>, Status>
where
    F: Future<Output = Result<Res, Status>>,
    H: FnOnce(Call, Req) -> F,
{
    let call = Call { method, peer: peer(&request) };
    let pid = call.peer.and_then(|peer| peer.pid);
    let uid = call.peer.map(|peer| peer.uid);
    // Who waits for an operation records it here.
    let span = tracing::info_span!("rpc", method, pid, uid, operation = Empty);
    let answered = async move {
        let pending = Pending { metrics, method, since: Instant::now(), answered: false };
        // The call is inside, so that a panic in it is caught too.
        let work = AssertUnwindSafe(async move { handler(call, request.into_inner()).await });
        let result = work.catch_unwind().await.unwrap_or_else(|_| {
            metrics.panic_caught();
            let message = format!("{method}: berthd failed; its log says where");
            Err(Status::internal(message))
        });
        pending.answered(result.as_ref().err());
        result
    };
    answered.instrument(span).await.map(Response::new)
}

fn peer<T>(request: &Request<T>) -> Option<Peer> {
    let peer = request.extensions().get::<UdsConnectInfo>()?.peer_cred?;
    Some(Peer { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

/// A request that has no answer yet. tonic drops it when the client leaves.
struct Pending<'a> {
    metrics: &'a Metrics,
    method: &'static str,
    since: Instant,
    answered: bool,
}

impl Pending<'_> {
    fn answered(mut self, error: Option<&Status>) {
        self.answered = true;
        let elapsed = self.since.elapsed();
        let code = error.map_or(Code::Ok, Status::code);
        self.metrics.operation(self.method, code_name(code), elapsed);
        let Some(error) = error else {
            return tracing::debug!(?elapsed, "answered");
        };
        let (code, message, cause) = (code_name(code), error.message(), innermost(error));
        match error.code() {
            Code::Internal | Code::Unknown | Code::DataLoss => {
                tracing::error!(?elapsed, code, cause, "{message}");
            }
            // What a client asks to find out.
            Code::NotFound | Code::Unimplemented => {
                tracing::info!(?elapsed, code, cause, "{message}");
            }
            _ => tracing::warn!(?elapsed, code, cause, "{message}"),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let elapsed = self.since.elapsed();
            self.metrics.operation(self.method, code_name(Code::Cancelled), elapsed);
            tracing::info!(?elapsed, "the client left before its answer");
        }
    }
}

/// The last cause of a status, in its Debug: a code or a number that the
/// message may not have.
fn innermost(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(format!("{cause:?}"))
}

#[cfg(test)]
mod tests {
    use berth_metrics::Build;

    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Build { version: "", revision: "", rustc: "" }).unwrap()
    }

    fn counted(metrics: &Metrics, code: &str) -> bool {
        let line = format!(r#"berth_operations_total{{code="{code}",operation="Version"}} 1"#);
        metrics.render().unwrap().contains(&line)
    }

    #[tokio::test]
    async fn an_answer_is_counted_by_its_code() {
        let metrics = metrics();

        let ok = answer(&metrics, "Version", Request::new(5), async |_, n| Ok(n + 1)).await;
        let refuse = async |_: Call, _: i32| Err::<(), _>(Status::not_found("gone"));
        let refused = answer(&metrics, "Version", Request::new(5), refuse).await;

        assert_eq!(ok.unwrap().into_inner(), 6);
        assert_eq!(refused.unwrap_err().message(), "gone");
        assert!(counted(&metrics, "OK") && counted(&metrics, "NOT_FOUND"));
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_counted_and_its_words_stay_here() {
        let metrics = metrics();
        let fail = async |_: Call, _: ()| -> Result<(), Status> { panic!("secret") };

        let status = answer(&metrics, "Version", Request::new(()), fail).await.unwrap_err();

        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"), "{status}");
        assert!(counted(&metrics, "INTERNAL"));
        assert!(metrics.render().unwrap().contains("berth_panics_total 1"));
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_counted_as_cancelled() {
        let metrics = metrics();
        let wait = async |_: Call, _: ()| -> Result<(), Status> { std::future::pending().await };

        let pending = answer(&metrics, "Version", Request::new(()), wait);
        assert!(pending.now_or_never().is_none());

        assert!(counted(&metrics, "CANCELLED"));
    }
}
