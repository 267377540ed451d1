//! Staying with a container: its output, its end, and the person's Ctrl-C.

use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;

use super::interrupts::Interrupts;
use crate::api::admin::{LogsRequest, WaitResponse};
use crate::log_lines::Printer;
use crate::node::{Admin, Cri};
use crate::output::{ReaderGone, note};

/// Seconds between asking a container to end and killing it.
const GRACE: u32 = 10;

/// The same where nobody reads what it writes: a shell waits for us, as in `| head`.
const UNREAD_GRACE: u32 = 1;

/// The log's stream ends with the container. Should its end get lost, it is not waited for longer
/// than this after the container's end and the last line.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Prints what a container writes until it has ended, and answers how it did.
pub(super) async fn attend(
    cri: &Cri,
    admin: &Admin,
    container: &str,
    interrupts: &mut Interrupts,
) -> anyhow::Result<WaitResponse> {
    let (ended, has_ended) = watch::channel(false);
    let output = async {
        match print_log(admin, container, has_ended).await {
            // As a pipe does it to a process: what nobody reads any more is not written either.
            Err(error) if error.is::<ReaderGone>() => {
                Ok(cri.stop_container(container, UNREAD_GRACE).await?)
            }
            printed => printed,
        }
    };
    let end = async {
        let end = admin.wait(container).await?;
        ended.send_replace(true);
        Ok(end)
    };
    tokio::select! {
        both = async { tokio::try_join!(output, end) } => both.map(|((), end)| end),
        error = stop_on_interrupt(cri, container, interrupts) => Err(error),
    }
}

async fn print_log(
    admin: &Admin,
    container: &str,
    mut has_ended: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let request =
        LogsRequest { container_id: container.to_owned(), follow: true, ..Default::default() };
    let mut answers = admin.logs(request).await?;
    let mut printer = Printer::new(false);
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer?,
            () = silence_after_end(&mut has_ended) => None,
        };
        match answer {
            Some(answer) => printer.print(&answer.lines)?,
            None => return Ok(()),
        }
    }
}

async fn silence_after_end(has_ended: &mut watch::Receiver<bool>) {
    // The sender goes only when all waiting is over.
    let _ = has_ended.wait_for(|ended| *ended).await;
    tokio::time::sleep(LAST_LINES).await;
}

/// Asks the container to end at the first interrupt, kills it at the second, and leaves it alone
/// at the third. Returns only then, or if stopping fails: a container that ends is seen by who
/// waits for it.
async fn stop_on_interrupt(
    cri: &Cri,
    container: &str,
    interrupts: &mut Interrupts,
) -> anyhow::Error {
    interrupts.next().await;
    note(format!("berth: stopping, for {GRACE} seconds at most; Ctrl-C again kills"));
    for grace in [GRACE, 0] {
        tokio::select! {
            stopped = cri.stop_container(container, grace) => match stopped {
                Ok(()) => break,
                Err(error) => return error.into(),
            },
            () = interrupts.next() => {}
        }
    }
    interrupts.next().await;
    anyhow!("interrupted")
}
