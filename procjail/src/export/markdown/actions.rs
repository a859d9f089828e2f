//! What to do about it.

use super::text::{Table, code, prose};
use super::{Page, todo};

impl Page<'_> {
    /// Remedies, with whom and how to know that they work.
    pub fn actions(&self) -> String {
        let mut table = Table::new(&["what", "for", "owner", "how we will know"]);
        let owner = || "**TODO**".to_owned();
        let mut told: Vec<&str> = Vec::new();
        for one in self.diagnoses() {
            if one.remedy.is_empty() || told.contains(&one.remedy.as_str()) {
                continue;
            }
            told.push(&one.remedy);
            let check = format!(
                "a new trace, in which `procjail explain` does not say {}",
                code(&one.id)
            );
            table.row([prose(&one.remedy), code(&one.id), owner(), check]);
        }
        for what in [
            "Fix now: what stops it from happening tonight",
            "Fix properly: what removes the cause",
            "Guardrail: the test, limit or alert that catches the next one",
        ] {
            table.row([format!("**TODO** {what}"), String::new(), owner(), owner()]);
        }
        format!(
            "## Actions\n\n{}\n{}",
            table.finish().unwrap_or_default(),
            todo("keep of the drafts what fits, and give each an owner and a date.")
        )
    }
}
