//! Where a child is born.
//!
//! A process added to a container may be asked to be made on some processors before it is in the
//! container's cgroup (`process.execCPUAffinity.initial`), so that the work of making it disturbs
//! no others. A child has the processors of the thread that clones it: so it is the parent who
//! goes there, and comes back.

use std::io;

use crate::plan::Numbers;
use crate::sys::task;

/// Calls `body` with the calling thread on `cpus`, or where it is without any.
///
/// # Errors
/// If the kernel has none of these processors, or `body` fails.
pub(crate) fn born_on<T>(
    cpus: Option<&Numbers>,
    body: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(cpus) = cpus else { return body() };
    tracing::debug!("initial CPU affinity: {}", mask(&cpus.words));
    let before = task::affinity()?;
    task::set_affinity(&cpus.words)?;
    let result = body();
    task::set_affinity(&before)?;
    result
}

/// Processors as one hexadecimal number, a bit each.
fn mask(words: &[u64]) -> String {
    let digits: String = words.iter().rev().map(|word| format!("{word:016x}")).collect();
    match digits.trim_start_matches('0') {
        "" => "0x0".to_owned(),
        digits => format!("0x{digits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_one_number() {
        for (words, text) in
            [(&[3][..], "0x3"), (&[0, 1], "0x10000000000000000"), (&[], "0x0"), (&[0], "0x0")]
        {
            assert_eq!(mask(words), text);
        }
    }

    #[test]
    fn the_body_runs_there_and_the_thread_comes_back() {
        let before = task::affinity().unwrap();
        let last = before.iter().rposition(|word| *word != 0).unwrap();
        let mut words = vec![0; last + 1];
        words[last] = 1 << (63 - before[last].leading_zeros());
        let cpus = Numbers { words: words.clone() };
        let inside = born_on(Some(&cpus), task::affinity).unwrap();
        assert_eq!(inside[..=last], words);
        assert!(inside[last + 1..].iter().all(|word| *word == 0));
        assert_eq!(task::affinity().unwrap(), before);
        assert_eq!(born_on(None, task::affinity).unwrap(), before);
    }
}
