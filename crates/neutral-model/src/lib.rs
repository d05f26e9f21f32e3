//! neutral-model
