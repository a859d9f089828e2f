//! What is generated from the rules and the model: the catalogue, and the form of an explanation.

use super::{Explanation, rules};
use crate::lab;
use crate::trace::schema_of;

/// The JSON Schema of an explanation; `docs/explanation.schema.json` in the sources.
pub fn schema() -> String {
    schema_of::<Explanation>()
}

/// The table of all rules; `docs/catalogue.md` in the sources.
pub fn catalogue() -> String {
    let mut page = String::from(
        "# Catalogue of diagnoses\n\n\
         Generated from the rules by `cargo xtask docs`. How they work: [diagnoses.md](diagnoses.md). A \
         scenario is run with `procjail lab ID`.\n\n\
         | id | what it finds | scenario |\n|---|---|---|\n",
    );
    for rule in rules::all() {
        let scenario = match lab::find(rule.id) {
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
