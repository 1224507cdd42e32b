//! JSON Schema's words, so that a misspelt one is not taken for an annotation.

use plugin_common::config::distance;

/// What is checked, or leads to what is.
const CHECKED: [&str; 48] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "$vocabulary",
    "format",
];

/// What says something and checks nothing.
const TOLD: [&str; 11] = [
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
    "example",
];

const UNSUPPORTED: [&str; 4] = ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

/// Why a word can't stand in a schema. Unknown ones are annotations by the standard; one that is nearly a keyword is
/// a slip of the pen that would let everything through.
pub(crate) fn refused(word: &str) -> Option<String> {
    if CHECKED.contains(&word) || TOLD.contains(&word) {
        return None;
    }
    if UNSUPPORTED.contains(&word) {
        return Some(format!("`{word}` is not supported: use $ref"));
    }
    let slips = |known: &str| if known.len() < 8 { 1 } else { 2 };
    let near = CHECKED.into_iter().find(|known| known.len() > 3 && distance(word, known) <= slips(known))?;
    Some(format!("unknown keyword `{word}`; did you mean `{near}`?"))
}
