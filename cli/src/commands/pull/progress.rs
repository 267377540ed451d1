//! How far a pull is: a bar for each layer on a terminal, a line for each event elsewhere.

use std::time::{Duration, Instant};

use crate::api::admin::pull_response::Event;
use crate::api::admin::{Layer, PullDone, PullProgress, PullResolved};
use crate::live::Live;
use crate::output::Stream;
use crate::rate::{self, Rate};
use crate::table;
use crate::units::{duration, size};

/// A person sees no more of faster frames.
const FRAME: Duration = Duration::from_millis(50);

/// Characters of a bar.
const BAR: usize = 30;

/// What a pull or a push is called while it goes on, and when it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    doing: &'static str,
    done: &'static str,
}

/// The words of a pull.
pub(crate) const PULL: Words = Words { doing: "pulling", done: "pulled" };
/// The words of a push.
pub(crate) const PUSH: Words = Words { doing: "pushing", done: "pushed" };

/// Tells a person of one pull or push.
#[derive(Debug)]
pub(crate) struct Progress {
    state: State,
    stream: Stream,
    live: Option<Live>,
    since: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Tells of the pull or push of `image`.
    pub(crate) fn new(image: &str, stream: Stream, words: Words) -> Self {
        let state = State::new(image, words);
        let live = stream.is_terminal().then(|| Live::new(stream));
        Self { state, stream, live, since: Instant::now(), drawn: None }
    }

    /// Tells what has happened.
    pub(crate) fn tell(&mut self, event: &Event) -> anyhow::Result<()> {
        let news = self.state.apply(event);
        match (&mut self.live, event) {
            (Some(live), Event::Done(_)) => live.draw(&news),
            (Some(_), _) if self.drawn.is_some_and(|drawn| drawn.elapsed() < FRAME) => Ok(()),
            (Some(live), _) => {
                self.drawn = Some(Instant::now());
                live.draw(&self.state.frame(self.since.elapsed()))
            }
            (None, _) => {
                news.iter().try_for_each(|line| self.stream.write(format!("{line}\n").as_bytes()))
            }
        }
    }
}

/// What is known of a pull.
#[derive(Debug)]
struct State {
    reference: String,
    layers: Vec<LayerState>,
    rate: Rate,
    words: Words,
}

#[derive(Debug)]
struct LayerState {
    layer: Layer,
    received: u64,
    complete: bool,
    rate: Rate,
}

impl State {
    fn new(image: &str, words: Words) -> Self {
        Self { reference: image.to_owned(), layers: Vec::new(), rate: Rate::default(), words }
    }

    /// Takes an event in, and answers what is worth a line of its own.
    fn apply(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Resolved(resolved) => vec![self.resolved(resolved)],
            Event::Progress(progress) => self.progress(progress),
            Event::Done(done) => vec![self.done(done)],
        }
    }

    fn resolved(&mut self, resolved: &PullResolved) -> String {
        self.reference = resolved.reference.clone();
        let state = |layer: &Layer| LayerState {
            layer: layer.clone(),
            received: if layer.present { layer.size } else { 0 },
            complete: layer.present,
            rate: Rate::default(),
        };
        self.layers = resolved.layers.iter().map(state).collect();
        let (count, all) = (self.layers.len(), self.total());
        let here = self.layers.iter().filter(|state| state.layer.present).count();
        let (reference, all) = (&self.reference, size::show(all));
        let here = if here > 0 { format!(", {here} here already") } else { String::new() };
        let doing = self.words.doing;
        format!("{doing} {reference}: {}, {all}{here}", layers(count))
    }

    /// An image may have one layer several times.
    fn progress(&mut self, progress: &PullProgress) -> Vec<String> {
        let PullProgress { digest, received, complete } = progress;
        let (short, bytes) = (table::id(digest, false), size::show(*received));
        let mut news = Vec::new();
        for state in self.layers.iter_mut().filter(|state| state.layer.digest == *digest) {
            if *complete && !state.complete {
                news.push(format!("layer {short} is complete: {bytes}"));
            }
            (state.received, state.complete) = (*received, *complete);
        }
        news
    }

    fn done(&self, done: &PullDone) -> String {
        let elapsed = Duration::from_nanos(u64::try_from(done.elapsed).unwrap_or(0));
        let (bytes, elapsed) = (size::show(done.received), duration::show(elapsed));
        format!("{} {}: {bytes} in {elapsed}", self.words.done, self.reference)
    }

    fn total(&self) -> u64 {
        self.layers.iter().map(|state| state.layer.size).sum()
    }

    /// What a terminal shows: the sum, then the layers that are on their way.
    fn frame(&mut self, elapsed: Duration) -> Vec<String> {
        if self.layers.is_empty() {
            return vec![format!("{}: resolving", self.reference)];
        }
        let complete = self.layers.iter().filter(|state| state.complete).count();
        let (received, total) = (self.received(), self.total());
        self.rate.see(elapsed, received);
        let summary = format!(
            "{}: {complete} of {}, {} of {}, {}{}",
            self.reference,
            layers(self.layers.len()),
            size::show(received),
            size::show(total),
            duration::show(elapsed),
            speed(&self.rate, total.saturating_sub(received)),
        );
        let open = self.layers.iter_mut().filter(|state| !state.complete);
        std::iter::once(summary).chain(open.map(|state| state.line(elapsed))).collect()
    }

    fn received(&self) -> u64 {
        self.layers.iter().map(|state| state.received).sum()
    }
}

/// How fast it goes and how long the rest will take, as far as that is known.
fn speed(rate: &Rate, left: u64) -> String {
    let Some(per_second) = rate.per_second() else { return String::new() };
    let eta = rate::eta(left, Some(per_second)).filter(|_| left > 0);
    let eta = eta.map(|eta| format!(", {} left", duration::show(eta))).unwrap_or_default();
    format!(", {}/s{eta}", size::show(per_second))
}

fn layers(count: usize) -> String {
    format!("{count} layer{}", if count == 1 { "" } else { "s" })
}

impl LayerState {
    fn line(&mut self, elapsed: Duration) -> String {
        self.rate.see(elapsed, self.received);
        let Layer { digest, size: total, .. } = &self.layer;
        let done = u128::from(self.received.min(*total)) * BAR as u128 / u128::from(*total).max(1);
        let done = usize::try_from(done).unwrap_or(BAR);
        let (done, left) = ("=".repeat(done), " ".repeat(BAR - done));
        let (received, total) = (size::show(self.received), size::show(*total));
        let speed = speed(&self.rate, self.layer.size.saturating_sub(self.received));
        format!("  {} [{done}{left}] {received} of {total}{speed}", table::id(digest, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn layer(digest: &str, size: u64, present: bool) -> Layer {
        Layer { digest: format!("sha256:{digest}"), size, present }
    }

    fn resolved() -> Event {
        Event::Resolved(PullResolved {
            reference: "docker.io/library/app:1".into(),
            layers: vec![layer("aa", 10 * MIB, false), layer("bb", 2 * MIB, true)],
        })
    }

    fn progress(received: u64, complete: bool) -> Event {
        Event::Progress(PullProgress { digest: "sha256:aa".into(), received, complete })
    }

    fn done() -> Event {
        let elapsed = 2_300_000_000;
        Event::Done(PullDone { image_id: "sha256:ff".into(), received: 10 * MIB, elapsed })
    }

    fn state() -> State {
        State::new("app:1", PULL)
    }

    fn layer_state(size: u64) -> LayerState {
        let layer = layer("aa", size, false);
        LayerState { layer, received: MIB, complete: false, rate: Rate::default() }
    }

    #[test]
    fn elsewhere_each_event_that_matters_is_a_line() {
        let mut state = state();
        let events = [resolved(), progress(MIB, false), progress(10 * MIB, true), done()];
        let lines: Vec<_> = events.iter().flat_map(|event| state.apply(event)).collect();
        let expected = [
            "pulling docker.io/library/app:1: 2 layers, 12 MiB, 1 here already",
            "layer aa is complete: 10 MiB",
            "pulled docker.io/library/app:1: 10 MiB in 2.3 s",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_terminal_sees_the_sum_and_what_is_on_its_way() {
        let mut state = state();
        assert_eq!(state.frame(Duration::ZERO), ["app:1: resolving"]);
        state.apply(&resolved());
        state.apply(&progress(5 * MIB, false));
        let expected = [
            "docker.io/library/app:1: 1 of 2 layers, 7 MiB of 12 MiB, 3.0 s",
            "  aa [===============               ] 5 MiB of 10 MiB",
        ];
        assert_eq!(state.frame(Duration::from_secs(3)), expected);
        state.apply(&progress(6 * MIB, false));
        let expected = [
            "docker.io/library/app:1: 1 of 2 layers, 8 MiB of 12 MiB, 4.0 s, 1 MiB/s, 4.0 s left",
            "  aa [==================            ] 6 MiB of 10 MiB, 1 MiB/s, 4.0 s left",
        ];
        assert_eq!(state.frame(Duration::from_secs(4)), expected);
        state.frame(Duration::from_secs(20));
        let stalled = state.frame(Duration::from_secs(40));
        assert!(stalled[0].ends_with("40.0 s, 0 B/s"), "{stalled:?}");
    }

    #[test]
    fn a_layer_that_is_longer_than_announced_fills_its_bar_and_no_more() {
        let line = |size| layer_state(size).line(Duration::ZERO);
        assert!(line(0).contains(&format!("[{}]", " ".repeat(30))));
        assert!(line(1).contains(&format!("[{}]", "=".repeat(30))));
    }
}
