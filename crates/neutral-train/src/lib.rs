//! neutral-train
