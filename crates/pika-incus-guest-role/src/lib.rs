//! Guest role names and what each implies.
