//! neutral-eval
