//! The JSON Schema of a trace, generated from the model so that it can't differ from it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;

use super::{Footer, Header};
use crate::event::Event;

/// One line of a trace.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Line {
    /// The first line.
    Header(Box<Header>),
    /// Every line between.
    Event(Box<Event>),
    /// The last line.
    Footer(Box<Footer>),
}

/// The JSON Schema of one line of a trace; `docs/trace.schema.json` in the sources.
pub fn schema() -> String {
    schema_of::<Line>()
}

/// The JSON Schema of a type as it is written.
pub(crate) fn schema_of<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>();
    // Serializing a value that serde_json made cannot fail.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
