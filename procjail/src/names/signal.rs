//! Signals, as signal(7) names them.

use nix::sys::signal::Signal;

/// First real-time signal that programs may use: the C library keeps the kernel's 32 and 33.
const RT_MIN: i32 = 34;
/// Last one.
const RT_MAX: i32 = 64;

/// Name of a signal: `SIGTERM`, `SIGRTMIN+3`; `SIG33` if it has none.
pub fn signal(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number == RT_MIN => "SIGRTMIN".to_owned(),
        Err(_) if (RT_MIN..=RT_MAX).contains(&number) => format!("SIGRTMIN+{}", number - RT_MIN),
        Err(_) => format!("SIG{number}"),
    }
}

/// The reverse of [`signal`], as a user may write it: `SIGTERM`, `term`, `15`, `RTMIN+3`, `RTMAX-1`.
/// `None` if there is no such signal.
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Ok(number) = short.parse::<i32>() {
        number
    } else if let Some(offset) = short.strip_prefix("RTMIN") {
        RT_MIN.checked_add(real_time_offset(offset, '+')?)?
    } else if let Some(offset) = short.strip_prefix("RTMAX") {
        RT_MAX.checked_sub(real_time_offset(offset, '-')?)?
    } else {
        format!("SIG{short}").parse::<Signal>().ok()? as i32
    };
    let real_time = (RT_MIN..=RT_MAX).contains(&number);
    (real_time || Signal::try_from(number).is_ok()).then_some(number)
}

fn real_time_offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if valid { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal(9), "SIGKILL");
        assert_eq!(signal(17), "SIGCHLD");
        assert_eq!(signal(34), "SIGRTMIN");
        assert_eq!(signal(64), "SIGRTMIN+30");
        assert_eq!(signal(0), "SIG0");
        assert_eq!(signal(-5), "SIG-5");
        assert_eq!(signal(i32::MAX), format!("SIG{}", i32::MAX));
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for number in (1..=31).chain(RT_MIN..=RT_MAX) {
            assert_eq!(signal_number(&signal(number)), Some(number));
        }
    }

    #[test]
    fn users_write_signals_in_many_ways() {
        assert_eq!(signal_number("term"), Some(15));
        assert_eq!(signal_number("15"), Some(15));
        assert_eq!(signal_number("rtmax-1"), Some(63));
        assert_eq!(signal_number("RTMAX"), Some(64));
        for wrong in [
            "", "SIG", "0", "32", "65", "-1", "RTMIN+31", "RTMIN-1", "RTMIN+-1", "FOO",
        ] {
            assert_eq!(signal_number(wrong), None, "{wrong}");
        }
    }
}
