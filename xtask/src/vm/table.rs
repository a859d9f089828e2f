//! `docs/kernels.md`: what each kernel has, as the tests found it.

use std::fmt::Write;

/// The facts of one machine.
#[derive(Clone, Debug)]
pub struct Column {
    /// Such as `6.1 hybrid`.
    pub title: String,
    /// Name and value, in the order in which they are to be shown.
    pub facts: Vec<(String, String)>,
}

const INTRODUCTION: &str = "\
# What each kernel gives

`cargo xtask test --vm` boots these kernels of Debian and runs the kernel tests on them: with cgroup v2 alone,
with v1 and v2 side by side (hybrid), and with v1 alone. The table is what the tests found and asserted there; the
test run fails when it is no longer true, and `cargo xtask test --vm --bless` writes it anew.

`procjail check` tells the same of the host that it runs on, with what is lost without a feature.

";

/// The page.
pub fn page(columns: &[Column]) -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|column| &column.facts) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut row = |cells: &mut dyn Iterator<Item = &str>| {
        for cell in cells {
            let _ = write!(page, "| {cell} ");
        }
        page.push_str("|\n");
    };
    row(&mut std::iter::once("").chain(columns.iter().map(|column| column.title.as_str())));
    row(&mut std::iter::repeat_n("---", columns.len() + 1));
    for name in names {
        let value = |column: &Column| {
            let fact = column.facts.iter().find(|(known, _)| known == name);
            fact.map_or("", |(_, value)| value.as_str()).to_owned()
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        row(&mut std::iter::once(name).chain(values.iter().map(String::as_str)));
    }
    page
}

/// The first lines that differ, for a message; none if nothing does.
pub fn difference(committed: &str, found: &str) -> Option<String> {
    if committed == found {
        return None;
    }
    let mut committed = committed.lines();
    let mut found = found.lines();
    loop {
        let pair = (committed.next(), found.next());
        if pair.0 != pair.1 {
            let (old, new) = (pair.0.unwrap_or("(end)"), pair.1.unwrap_or("(end)"));
            return Some(format!("committed: {old}\nfound:     {new}"));
        }
        if pair == (None, None) {
            return Some("only the ends of lines differ".to_owned());
        }
    }
}

/// The same page without the last column of its table, the kernel that is still being developed.
pub fn without_last_column(page: &str) -> String {
    let lines = page.lines().map(|line| {
        let cells = line.strip_suffix(" |").filter(|_| line.starts_with("| "));
        match cells.and_then(|cells| cells.rsplit_once(" |")) {
            Some((others, _)) => format!("{others} |\n"),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &str, facts: &[(&str, &str)]) -> Column {
        Column {
            title: title.to_owned(),
            facts: facts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_fact_that_a_machine_does_not_have_is_an_empty_cell() {
        let page = page(&[
            column("5.10 v2", &[("kill", "freeze")]),
            column("6.1 v2", &[("kill", "cgroup.kill"), ("peak", "yes")]),
        ]);
        let table = page.strip_prefix(INTRODUCTION).expect("the introduction");
        assert_eq!(
            table,
            "|  | 5.10 v2 | 6.1 v2 |\n| --- | --- | --- |\n| kill | freeze | cgroup.kill |\n| peak |  | yes |\n"
        );
    }

    #[test]
    fn a_kernel_that_the_page_does_not_know_can_be_left_out() {
        let known = column("6.1 v2", &[("kill", "cgroup.kill")]);
        let old = page(&[known.clone(), column("7.2 v2", &[("kill", "a")])]);
        let new = page(&[known.clone(), column("7.3 v2", &[("kill", "")])]);
        assert_ne!(old, new);
        assert_eq!(without_last_column(&old), without_last_column(&new));
        assert_eq!(without_last_column(&old), page(&[known]));
    }

    #[test]
    fn a_difference_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let shown = difference("a\nb\n", "a\nc\n").expect("a difference");
        assert_eq!(shown, "committed: b\nfound:     c");
        assert!(difference("a\n", "a\nb\n").is_some());
    }
}
