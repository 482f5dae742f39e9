//! Names of signals, as images, pods and CRI write them. Pure.

use cri::v1;

const NAMES: [(&str, i32); 32] = [
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
];
/// The C library keeps the first two real-time signals for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal: `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`, `SIGRTMINPLUS3`.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let counted = |rest: &str, signs: [&str; 2]| match rest {
        "" => Some(0),
        rest => signs.iter().find_map(|s| rest.strip_prefix(s))?.parse::<i32>().ok().filter(|n| (0..=30).contains(n)),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return counted(rest, ["+", "PLUS"]).map(|n| RTMIN + n);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return counted(rest, ["-", "MINUS"]).map(|n| RTMAX - n);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// What asks a container to end: the pod's signal, else the image's, else SIGTERM.
pub fn stop_signal(pod: v1::Signal, image: &str) -> i32 {
    let of_pod = (pod != v1::Signal::RuntimeDefault).then(|| number(pod.as_str_name())).flatten();
    of_pod.or_else(|| number(image)).unwrap_or(libc::SIGTERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMINPLUS3", Some(37)),
            ("SIGRTMAXMINUS1", Some(63)),
            ("", None),
            ("99", None),
            ("NOPE", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!(stop_signal(v1::Signal::RuntimeDefault, "SIGQUIT"), libc::SIGQUIT);
        assert_eq!(stop_signal(v1::Signal::Sigusr1, "SIGQUIT"), libc::SIGUSR1);
        assert_eq!(stop_signal(v1::Signal::RuntimeDefault, ""), libc::SIGTERM);
    }
}
