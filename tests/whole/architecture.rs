//! The arrows between crates are those of ARCHITECTURE.md's table, no more and no fewer.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::command::root;

/// `| neutral-x | job | may use | libtorch |` rows of ARCHITECTURE.md: crate to allowed crates; those that link libtorch.
fn table() -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (mut table, mut links) = (BTreeMap::new(), BTreeSet::new());
    for row in text.lines().filter(|line| line.starts_with("| neutral-")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let uses = cells[2].split(", ").filter(|name| *name != "–");
        table.insert(cells[0].to_owned(), uses.map(|name| format!("neutral-{name}")).collect());
        match cells[3] {
            "yes" => drop(links.insert(cells[0].to_owned())),
            other => assert_eq!(other, "no", "{row}"),
        }
    }
    (table, links)
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crates_use_each_other_exactly_as_the_table_says() {
    let (table, links) = table();
    assert!(table.len() >= 10, "the table of ARCHITECTURE.md was not found");
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut links_libtorch = BTreeSet::new();
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap().to_owned();
        if name == "neutral-tests" {
            continue;
        }
        let dependencies = package["dependencies"].as_array().unwrap();
        let normal = dependencies.iter().filter(|d| d["kind"].is_null());
        let names: BTreeSet<_> = normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect();
        if names.contains("tch") {
            links_libtorch.insert(name.clone());
        }
        seen.insert(name, names.into_iter().filter(|n| n.starts_with("neutral-")).collect());
    }
    assert_eq!(table, seen);
    // What uses a crate that links it links it too.
    for _ in 0..seen.len() {
        let uses = seen.iter().filter(|(_, uses)| !uses.is_disjoint(&links_libtorch));
        let more: Vec<_> = uses.map(|(name, _)| name.clone()).collect();
        links_libtorch.extend(more);
    }
    assert_eq!(links, links_libtorch);
}

#[test]
fn every_crate_has_a_readme_and_no_source_file_is_too_long() {
    let mut too_long = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        assert!(folder.join("README.md").exists(), "{} lacks a README.md", folder.display());
        visit(&folder.join("src"), &mut |path, lines| {
            if lines > 400 {
                too_long.push(format!("{} ({lines})", path.display()));
            }
        });
    }
    assert!(too_long.is_empty(), "files over 400 lines want a room of their own: {too_long:?}");
}

fn visit(folder: &std::path::Path, seen: &mut impl FnMut(&std::path::Path, usize)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, seen);
        } else if path.extension().is_some_and(|e| e == "rs") {
            seen(&path, std::fs::read_to_string(&path).unwrap().lines().count());
        }
    }
}

#[test]
fn the_mutations_of_the_gate_fit_the_code() {
    let patch = std::fs::File::open(root().join("scripts/mutations.patch")).unwrap();
    let mut command = std::process::Command::new("patch");
    command
        .args(["--dry-run", "--force", "--fuzz=0", "--strip", "1"])
        .current_dir(root())
        .stdin(patch);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "scripts/mutate cannot run: {said}");
}
