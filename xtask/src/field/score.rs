//! What an explanation is worth, beside the truth.

use serde::Deserialize;

use super::case::{Case, Pattern};

/// What `procjail explain --format json` writes, version 1 or 2.
#[derive(Debug, Deserialize)]
pub struct Explanation {
    pub diagnoses: Vec<Diagnosis>,
}

/// A verdict, and what followed from it.
#[derive(Debug, Deserialize)]
pub struct Diagnosis {
    pub id: String,
    /// What the events say; version 1 has one sentence for all.
    #[serde(alias = "verdict")]
    pub fact: String,
    pub confidence: String,
    /// Why; not in version 1.
    pub cause: Option<Cause>,
    #[serde(alias = "fix")]
    pub remedy: Option<String>,
    #[serde(default)]
    pub consequences: Vec<Diagnosis>,
}

/// Why, and how sure.
#[derive(Debug, Deserialize)]
pub struct Cause {
    pub text: String,
    pub confidence: String,
    #[serde(default)]
    pub alternatives: Vec<String>,
}

const PROVEN: &str = "proven";

/// True but no cause: the end is told, not why.
const VAGUE: [&str; 4] = [
    "no-finding",
    "exited-by-itself",
    "ended-on-request",
    "kill-after-grace",
];

impl Diagnosis {
    /// All that it says.
    fn text(&self) -> String {
        let mut text = self.fact.clone();
        if let Some(cause) = &self.cause {
            text = format!("{text} {}", cause.text);
            for other in &cause.alternatives {
                text = format!("{text} {other}");
            }
        }
        match &self.remedy {
            Some(remedy) => format!("{text} {remedy}"),
            None => text,
        }
    }

    /// How sure all of it is.
    fn sure(&self) -> &str {
        let cause = self.cause.as_ref().map(|cause| cause.confidence.as_str());
        match cause {
            Some(cause) if self.confidence == PROVEN => cause,
            _ => &self.confidence,
        }
    }

    /// Its claims that are called proven.
    fn proven(&self) -> Vec<&str> {
        let fact = (self.confidence == PROVEN).then_some(self.fact.as_str());
        let cause = self.cause.as_ref();
        let cause = cause.filter(|cause| cause.confidence == PROVEN);
        fact.into_iter()
            .chain(cause.map(|cause| cause.text.as_str()))
            .collect()
    }

    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a Diagnosis)) {
        visit(self);
        self.consequences.iter().for_each(|one| one.each(visit));
    }
}

impl Pattern {
    fn matches(&self, diagnosis: &Diagnosis) -> bool {
        let says = |text: &regex::Regex| text.is_match(&diagnosis.text());
        self.names(diagnosis) && self.says.as_ref().is_none_or(says)
    }

    fn names(&self, diagnosis: &Diagnosis) -> bool {
        self.id.as_ref().is_none_or(|id| *id == diagnosis.id)
    }

    /// Whether the diagnosis calls this proven.
    fn proven_by(&self, diagnosis: &Diagnosis) -> bool {
        self.names(diagnosis)
            && match &self.says {
                Some(says) => diagnosis.proven().iter().any(|claim| says.is_match(claim)),
                None => diagnosis.sure() == PROVEN,
            }
    }
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The first verdict is right.
    Right,
    /// The right verdict is not the first.
    Later,
    /// The first verdict gives no cause, and no other is right; or what must be told is missing.
    Vague,
    /// There is no verdict at all.
    Missing,
    /// The first verdict is another one.
    Wrong,
    /// The case itself did not happen as written.
    Broken,
    /// Its packages are not installed.
    Packages,
    /// This machine lacks what it needs.
    NotHere,
}

impl Mark {
    pub const ALL: [Mark; 8] = [
        Mark::Right,
        Mark::Later,
        Mark::Vague,
        Mark::Missing,
        Mark::Wrong,
        Mark::Broken,
        Mark::Packages,
        Mark::NotHere,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Mark::Right => "right first",
            Mark::Later => "right later",
            Mark::Vague => "vague",
            Mark::Missing => "missing",
            Mark::Wrong => "wrong",
            Mark::Broken => "broken case",
            Mark::Packages => "missing packages",
            Mark::NotHere => "not on this machine",
        }
    }

    /// Whether the case was played and counts for the score.
    pub fn counts(self) -> bool {
        !matches!(self, Mark::Broken | Mark::Packages | Mark::NotHere)
    }
}

/// The score of one case.
#[derive(Debug)]
pub struct Score {
    pub mark: Mark,
    /// The first verdict, `ID (confidence)`, or what went wrong.
    pub said: String,
    /// Its sentence.
    pub sentence: String,
    /// False claims that are called proven.
    pub false_proven: Vec<String>,
}

impl Score {
    /// Of a case that could not be played.
    pub fn unplayed(mark: Mark, why: String) -> Score {
        Score {
            mark,
            said: why,
            sentence: String::new(),
            false_proven: Vec::new(),
        }
    }
}

/// Compares.
pub fn score(case: &Case, explanation: &Explanation) -> Score {
    let Some(first) = explanation.diagnoses.first() else {
        return Score::unplayed(Mark::Missing, "no verdict".to_owned());
    };
    let mut all = Vec::new();
    for diagnosis in &explanation.diagnoses {
        diagnosis.each(&mut |one| all.push(one));
    }
    let any =
        |patterns: &[Pattern], one: &Diagnosis| patterns.iter().any(|pattern| pattern.matches(one));
    let told = |pattern: &Pattern| all.iter().any(|one| pattern.matches(one));
    let mark = if any(&case.first, first) {
        match case.must.iter().all(told) {
            true => Mark::Right,
            false => Mark::Vague,
        }
    } else if all
        .iter()
        .any(|one| any(&case.first, one) || any(&case.also, one))
    {
        Mark::Later
    } else if VAGUE.contains(&first.id.as_str()) {
        Mark::Vague
    } else {
        Mark::Wrong
    };
    let wrong = all
        .iter()
        .filter(|one| case.forbid.iter().any(|claim| claim.proven_by(one)));
    Score {
        mark,
        said: format!("{} ({})", first.id, first.sure()),
        sentence: match &first.cause {
            Some(cause) => format!("{} Why ({}): {}", first.fact, cause.confidence, cause.text),
            None => first.fact.clone(),
        },
        false_proven: wrong
            .map(|one| format!("{}: {}", one.id, one.proven().join(" ")))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(expected: &str) -> Case {
        let text = format!("truth = 't'\nsource = 's'\ncommand = ['true']\n{expected}");
        toml::from_str(&text).expect("a case")
    }

    fn explained(json: &str) -> Explanation {
        serde_json::from_str(json).expect("an explanation")
    }

    /// Version 1: an OOM kill, and what follows from it.
    const OLD: &str = r#"{"version": 1, "diagnoses": [
        {"id": "exit-own-code", "verdict": "sh itself returned 1.", "confidence": "likely", "fix": "Look.",
         "consequences": [{"id": "oom-own-limit", "verdict": "python3 was killed.", "confidence": "proven", "fix": null}]}]}"#;

    /// Version 2: a fact that is proven, and a cause that is not.
    const NEW: &str = r#"{"version": 2, "diagnoses": [
        {"id": "term-shutdown-unfinished", "fact": "The handler ran.", "confidence": "proven", "remedy": "Wait longer.",
         "cause": {"text": "A connection is open.", "confidence": "CAUSE", "alternatives": ["a deadlock"]}}]}"#;

    #[test]
    fn the_first_verdict_decides() {
        let mark = |expected: &str, json| score(&case(expected), &explained(json)).mark;
        assert_eq!(mark("first = ['exit-own-code']", OLD), Mark::Right);
        assert_eq!(mark("first = ['oom-own-limit']", OLD), Mark::Later);
        assert_eq!(
            mark("first = ['emfile']\nalso = ['oom-own-limit']", OLD),
            Mark::Later
        );
        assert_eq!(mark("first = ['emfile']", OLD), Mark::Wrong);
        let nothing =
            r#"{"diagnoses": [{"id": "no-finding", "fact": "Nothing.", "confidence": "proven"}]}"#;
        assert_eq!(mark("first = ['emfile']", nothing), Mark::Vague);
        assert_eq!(
            mark("first = ['emfile']", r#"{"diagnoses": []}"#),
            Mark::Missing
        );
    }

    #[test]
    fn what_must_be_told_may_be_anywhere() {
        let mark = |must: &str| {
            let expected = format!("first = ['exit-own-code']\nmust = ['{must}']");
            score(&case(&expected), &explained(OLD)).mark
        };
        assert_eq!(mark("oom-own-limit"), Mark::Right);
        assert_eq!(mark("emfile"), Mark::Vague);
    }

    #[test]
    fn a_sentence_can_be_asked_for() {
        let mark = |says: &str| {
            let expected =
                format!("first = [{{ id = 'term-shutdown-unfinished', says = '{says}' }}]");
            score(&case(&expected), &explained(NEW)).mark
        };
        assert_eq!(mark("HANDLER ran"), Mark::Right);
        assert_eq!(mark("connection"), Mark::Right);
        assert_eq!(mark("deadlock"), Mark::Right);
        assert_eq!(mark("wait longer"), Mark::Right);
        assert_eq!(mark("disk"), Mark::Wrong);
    }

    #[test]
    fn false_and_proven_is_found_anywhere() {
        let count = |forbid: &str, json| {
            let expected = format!("first = ['x']\nforbid = [{forbid}]");
            score(&case(&expected), &explained(json)).false_proven.len()
        };
        assert_eq!(count("'exit-own-code'", OLD), 0);
        assert_eq!(count("'oom-own-limit'", OLD), 1);
        assert_eq!(count("{ says = 'was killed' }", OLD), 1);
        assert_eq!(count("{ id = 'oom-own-limit', says = 'nobody' }", OLD), 0);
    }

    #[test]
    fn a_fact_and_its_cause_are_judged_apart() {
        let count = |forbid: &str, cause: &str| {
            let expected = format!("first = ['x']\nforbid = [{forbid}]");
            let json = NEW.replace("CAUSE", cause);
            score(&case(&expected), &explained(&json))
                .false_proven
                .len()
        };
        assert_eq!(count("{ says = 'handler ran' }", "likely"), 1);
        assert_eq!(count("{ says = 'connection' }", "likely"), 0);
        assert_eq!(count("{ says = 'connection' }", "proven"), 1);
        assert_eq!(count("'term-shutdown-unfinished'", "likely"), 0);
        assert_eq!(count("'term-shutdown-unfinished'", "proven"), 1);
    }
}
