//! Signals by their names: those of CRI, and those of images.

use tonic::Status;

use crate::api::runtime::Signal;

use super::invalid;

/// The signal that asks a process to end when nobody says otherwise.
const DEFAULT: i32 = libc::SIGTERM;

/// Signals by name. Some have two.
const NAMES: [(&str, i32); 35] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGIO),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("UNUSED", libc::SIGSYS),
];

/// The stop signal of a container: what the client says, else what the image says.
pub(super) fn stop_signal(asked: i32, image: Option<&str>) -> Result<i32, Status> {
    let field = "config.stop_signal";
    match Signal::try_from(asked) {
        Err(_) => Err(invalid(field, format!("{asked} is unknown"))),
        Ok(Signal::RuntimeDefault) => match image.filter(|name| !name.is_empty()) {
            None => Ok(DEFAULT),
            Some(name) => parse(name)
                .ok_or_else(|| invalid("the image's stop signal", format!("{name:?} is unknown"))),
        },
        Ok(signal) => {
            let name = signal.as_str_name().trim_start_matches("SIGNAL_");
            let name = name.replace("MINPLUS", "MIN+").replace("MAXMINUS", "MAX-");
            parse(&name).ok_or_else(|| invalid(field, format!("{name} is unknown")))
        }
    }
}

/// The CRI's name for a signal's number.
#[must_use]
pub fn to_cri(number: i32) -> Signal {
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let name = match number {
        n if n == first => "SIGNAL_SIGRTMIN".to_owned(),
        n if n == last => "SIGNAL_SIGRTMAX".to_owned(),
        n if (first..=first + 15).contains(&n) => format!("SIGNAL_SIGRTMINPLUS{}", n - first),
        n if (first..=last).contains(&n) => format!("SIGNAL_SIGRTMAXMINUS{}", last - n),
        n => {
            let named = NAMES.iter().find(|(_, signal)| *signal == n);
            format!("SIGNAL_SIG{}", named.map_or("", |(name, _)| name))
        }
    };
    Signal::from_str_name(&name).unwrap_or(Signal::RuntimeDefault)
}

/// Reads `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
fn parse(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let last = libc::SIGRTMAX();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=last).contains(&number).then_some(number);
    }
    let real_time = |offset: &str, base: i32, sign: i32| {
        let offset = if offset.is_empty() { 0 } else { offset[1..].parse::<i32>().ok()? };
        let number = base + sign * offset;
        (libc::SIGRTMIN()..=last).contains(&number).then_some(number)
    };
    if let Some(offset) = name.strip_prefix("RTMIN").filter(|o| o.is_empty() || o.starts_with('+'))
    {
        return real_time(offset, libc::SIGRTMIN(), 1);
    }
    if let Some(offset) = name.strip_prefix("RTMAX").filter(|o| o.is_empty() || o.starts_with('-'))
    {
        return real_time(offset, last, -1);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_signal_has_many_spellings() {
        let image = |name| stop_signal(0, Some(name)).map_err(|status| status.message().to_owned());
        for (name, number) in
            [("SIGQUIT", 3), ("quit", 3), ("3", 3), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("", 15)]
        {
            assert_eq!(image(name), Ok(number), "{name:?}");
        }
        for bad in ["SIGNOPE", "0", "65", "-1", "RTMIN+40", "RTMIN-1", "SIGRTMIN+", "RTMAX+1"] {
            assert!(image(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_client_wins_over_the_image() {
        assert_eq!(stop_signal(Signal::Sigint.into(), Some("SIGQUIT")).unwrap(), libc::SIGINT);
        assert!(stop_signal(1000, None).is_err());
    }

    #[test]
    fn every_signal_of_the_contract_is_known_and_comes_back() {
        for value in 1..=65 {
            let signal = Signal::try_from(value).unwrap();
            let number = stop_signal(value, None).unwrap();
            let back = to_cri(number);
            assert_eq!(stop_signal(back.into(), None).unwrap(), number, "{signal:?}");
        }
    }
}
