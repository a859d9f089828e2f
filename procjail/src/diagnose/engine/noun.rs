//! What a verdict calls what was traced. The rules speak of the jail; of what others started the same is said with the
//! word that its owners use.

use super::options;
use crate::diagnose::{Case, Diagnosis};

/// The word for what was traced, if it is no jail of procjail's.
fn noun(case: &Case) -> Option<&'static str> {
    if case.header.jail.launcher.is_some() {
        return None;
    }
    let kind = case.header.jail.container.as_ref()?.kind.as_str();
    Some(match kind {
        "unit" => "unit",
        "cgroup" | "process" => "cgroup",
        _ => "container",
    })
}

/// Puts the word into all that procjail says itself; what is quoted stays as it is.
pub(super) fn rename(case: &Case, diagnoses: &mut [Diagnosis]) {
    if let Some(noun) = noun(case) {
        for one in &mut *diagnoses {
            rename_one(noun, one);
        }
        options::rename(case, diagnoses);
    }
}

fn rename_one(noun: &str, one: &mut Diagnosis) {
    let put = |text: &mut String| *text = say(noun, text);
    put(&mut one.fact);
    put(&mut one.remedy);
    if let Some(cause) = &mut one.cause {
        put(&mut cause.text);
        cause.alternatives.iter_mut().for_each(put);
    }
    for ruled_out in &mut one.ruled_out {
        put(&mut ruled_out.what);
        put(&mut ruled_out.because);
    }
    for evidence in &mut one.evidence {
        put(&mut evidence.shows);
    }
    one.weakened.iter_mut().for_each(put);
    for consequence in &mut one.consequences {
        rename_one(noun, consequence);
    }
}

/// The text with the word in the place of `jail`, outside of quotes and code.
fn say(noun: &str, text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut quoted = None;
    for part in text.split_inclusive(['`', '"']) {
        match quoted {
            None => said.push_str(&replace(noun, part)),
            Some(_) => said.push_str(part),
        }
        let end = part
            .chars()
            .next_back()
            .filter(|char| matches!(char, '`' | '"'));
        quoted = match (quoted, end) {
            (None, end) => end,
            (Some(open), Some(end)) if open == end => None,
            (quoted, _) => quoted,
        };
    }
    said
}

fn replace(noun: &str, text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("jail") {
        let (before, found) = rest.split_at(at);
        let after = found.get(4..).unwrap_or_default();
        let is_letter = |char: char| char.is_alphanumeric() || matches!(char, '-' | '_' | '/');
        let within =
            before.ends_with(is_letter) || after.starts_with(is_letter) && !after.starts_with("s ");
        said.push_str(before);
        said.push_str(if within { "jail" } else { noun });
        rest = after;
    }
    said.push_str(rest);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_procjails_own_words_are_changed() {
        let text = "sh was killed from outside the jail: SIGKILL from `rm /the/jail the jail` in the jail's cgroup; \
                    procjail knows other jails too, \"the jail\" says";
        let said = say("container", text);
        assert_eq!(
            said,
            "sh was killed from outside the container: SIGKILL from `rm /the/jail the jail` in the container's \
             cgroup; procjail knows other containers too, \"the jail\" says"
        );
        assert_eq!(say("unit", "an odd ` jail"), "an odd ` jail");
    }
}
