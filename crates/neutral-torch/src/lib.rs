//! neutral-torch
