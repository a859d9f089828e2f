//! The results in tables: on the terminal, and docs/field.md.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::case::Case;
use super::score::{Mark, Score};

/// How many cases got each mark, and how many verdicts were false and called proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    marks: BTreeMap<&'static str, usize>,
    counted: usize,
    false_proven: usize,
}

impl Tally {
    /// Adds a case.
    pub fn add(&mut self, score: &Score) {
        *self.marks.entry(score.mark.words()).or_default() += 1;
        self.counted += usize::from(score.mark.counts());
        self.false_proven += score.false_proven.len();
    }

    fn of(&self, mark: Mark) -> usize {
        self.marks.get(mark.words()).copied().unwrap_or_default()
    }

    /// In percent of those that were played.
    fn right(&self) -> f64 {
        let count = |number: usize| u32::try_from(number).map_or(0.0, f64::from);
        100.0 * count(self.of(Mark::Right)) / count(self.counted.max(1))
    }

    /// Whether the run is a success: 95 % right first, nothing false called proven, nothing left out.
    pub fn passes(&self, installed_only: bool) -> bool {
        let packages = self.of(Mark::Packages) == 0 || installed_only;
        let broken = self.of(Mark::Broken) == 0;
        self.counted > 0 && self.right() >= 95.0 && self.false_proven == 0 && packages && broken
    }

    fn row(&self, name: &str) -> String {
        let mut row = format!("| {name} ");
        for mark in Mark::ALL {
            let _ = write!(row, "| {} ", self.of(mark));
        }
        let _ = write!(row, "| {} | {:.0} % |", self.false_proven, self.right());
        row
    }
}

/// The tallies of all families, and of all cases.
pub fn tallies<'a>(results: &[(&'a Case, Score)]) -> (BTreeMap<&'a str, Tally>, Tally) {
    let mut families: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut total = Tally::default();
    for (case, score) in results {
        families.entry(&case.family).or_default().add(score);
        total.add(score);
    }
    (families, total)
}

/// The table of families.
pub fn summary(results: &[(&Case, Score)]) -> String {
    let (families, total) = tallies(results);
    let mut text = "| family ".to_owned();
    for mark in Mark::ALL {
        let _ = write!(text, "| {} ", mark.words());
    }
    text.push_str("| FALSE PROVEN | right first |\n");
    text.push_str(&"|---".repeat(Mark::ALL.len() + 3));
    text.push_str("|\n");
    for (family, tally) in families {
        text.push_str(&tally.row(family));
        text.push('\n');
    }
    text.push_str(&total.row("**all**"));
    text.push('\n');
    text
}

/// What is printed of one case when it was played.
pub fn line(case: &Case, score: &Score) -> String {
    let name = format!("{}/{}", case.family, case.name);
    let mut text = format!("{:12} {name:40} {}", score.mark.words(), score.said);
    if !matches!(score.mark, Mark::Right | Mark::Packages | Mark::NotHere) {
        let ids = case
            .first
            .iter()
            .filter_map(|pattern| pattern.id.as_deref());
        let _ = write!(text, "\n{:13}said:  {}", "", score.sentence);
        let _ = write!(text, "\n{:13}truth: {}", "", case.truth.trim());
        let _ = write!(
            text,
            "\n{:13}right: {}",
            "",
            ids.collect::<Vec<_>>().join(", ")
        );
    }
    for claim in &score.false_proven {
        let _ = write!(text, "\n{:13}FALSE PROVEN: {claim}", "");
    }
    text
}

/// docs/field.md.
pub fn page(results: &[(&Case, Score)]) -> String {
    let mut text = format!(
        "# The field test\n\n\
         Written by `cargo xtask field --table`. Real programs and incidents, most of them of public reports, and what\n\
         procjail says of them first. tests/field/README.md tells how they are played.\n\n{}",
        summary(results)
    );
    let mut family = "";
    for (case, score) in results {
        if case.family != family {
            family = &case.family;
            let _ = write!(
                text,
                "\n## {family}\n\n| case | truth | first verdict | score |\n|---|---|---|---|\n"
            );
        }
        let name = match case.source.starts_with("https://") {
            true => format!("[{}]({})", case.name, case.source),
            false => format!("{}, {}", case.name, case.source),
        };
        let false_proven = match score.false_proven.len() {
            0 => "",
            _ => ", FALSE PROVEN",
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {}{false_proven} |",
            cell(&case.truth),
            cell(&score.said),
            score.mark.words()
        );
    }
    text
}

fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(mark: Mark, false_proven: usize) -> Score {
        Score {
            false_proven: vec!["false".to_owned(); false_proven],
            ..Score::unplayed(mark, String::new())
        }
    }

    fn tally(right: usize, others: &[Score]) -> Tally {
        let mut tally = Tally::default();
        (0..right).for_each(|_| tally.add(&scored(Mark::Right, 0)));
        others.iter().for_each(|score| tally.add(score));
        tally
    }

    #[test]
    fn ninety_five_percent_pass_and_nothing_false_may_be_proven() {
        assert!(tally(19, &[scored(Mark::Vague, 0)]).passes(false));
        assert!(!tally(18, &[scored(Mark::Vague, 0)]).passes(false));
        assert!(!tally(19, &[scored(Mark::Right, 1)]).passes(false));
        assert!(!tally(0, &[]).passes(false));
    }

    #[test]
    fn missing_packages_fail_unless_they_are_allowed() {
        let some = tally(19, &[scored(Mark::Packages, 0), scored(Mark::NotHere, 0)]);
        assert!(!some.passes(false));
        assert!(some.passes(true));
        assert!(!tally(19, &[scored(Mark::Broken, 0)]).passes(true));
    }

    #[test]
    fn a_row_has_a_column_for_each_mark() {
        let row = tally(3, &[scored(Mark::Wrong, 2)]).row("x");
        assert_eq!(row, "| x | 3 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 2 | 75 % |");
    }

    #[test]
    fn cells_hold_no_bars_and_no_line_breaks() {
        assert_eq!(cell("a |\n  b"), "a \\| b");
    }
}
