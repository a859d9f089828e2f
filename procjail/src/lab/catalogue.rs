//! The catalogue of all rules, with the scenarios that prove them.

use crate::diagnose::rules;

/// The table of all rules; `docs/catalogue.md` in the sources.
pub fn catalogue() -> String {
    let mut page = String::from(
        "# Catalogue of diagnoses\n\n\
         Generated from the rules by `cargo xtask docs`. How they work: [diagnoses.md](diagnoses.md). A \
         scenario is run with `procjail lab ID`.\n\n\
         | id | what it finds | scenario |\n|---|---|---|\n",
    );
    for rule in rules::all() {
        let scenario = match super::find(rule.id) {
            None => "none".to_owned(),
            Some(scenario) if scenario.needs.is_empty() => "yes".to_owned(),
            Some(scenario) => {
                let needs: Vec<String> = scenario.needs.iter().map(ToString::to_string).collect();
                format!("needs {}", needs.join(", "))
            }
        };
        page += &format!("| `{}` | {} | {scenario} |\n", rule.id, rule.about);
    }
    page
}
