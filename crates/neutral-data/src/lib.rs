//! neutral-data
