//! The schema says what the reader does, and no less.

use super::*;
use crate::targets::Origin;

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&of_targets()).unwrap()
}

#[test]
fn placeholder() {
    assert!(validator().is_valid(&json!({})));
    let _ = Origin::BuiltIn;
}
