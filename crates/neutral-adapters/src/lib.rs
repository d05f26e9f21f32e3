//! neutral-adapters
