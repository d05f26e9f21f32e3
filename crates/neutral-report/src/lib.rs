//! neutral-report
