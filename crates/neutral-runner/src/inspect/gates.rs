//! What branches are like, block by block: sizes of their weights, and what gates did on text.

use std::collections::BTreeMap;

use neutral_report::{ByDomain, Neutrality};
use neutral_torch::{TensorFile, TorchError};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::table::aligned;

/// One block's branches.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct BlockRow {
    pub block: usize,
    /// `‖w‖₂` of the gate; of a gate a channel, of the whole matrix; of two branches, both together.
    pub gate_norm: Option<f64>,
    /// The gate's bias; of a gate a channel, its mean; of two branches, the mean of both.
    pub gate_bias: Option<f64>,
    /// `‖W_o‖₂`: 0 at the start.
    pub output_norm: Option<f64>,
    /// Share of tokens at which the gate is exactly zero, and `‖residue‖₁ / d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<Seen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Seen>,
}

/// What a block's branches did on the held-out text of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Seen {
    pub gate_zero_fraction: f64,
    pub residue_l1: f64,
}

impl BlockRow {
    /// Enters one of a branch's tensors, in fp64; others than these three say nothing here.
    fn add(&mut self, part: &str, tensor: &Tensor) {
        match part {
            "gate.weight" => add_norm(&mut self.gate_norm, tensor),
            "gate.bias" => {
                let bias = tensor.mean(Kind::Double).double_value(&[]);
                self.gate_bias =
                    Some(self.gate_bias.map_or(bias, |other| f64::midpoint(other, bias)));
            }
            "w_o" => add_norm(&mut self.output_norm, tensor),
            _ => {}
        }
    }
}

/// A row for each block that has a branch.
pub(super) fn rows(
    file: &TensorFile,
    neutrality: Option<&ByDomain<Neutrality>>,
) -> Result<Vec<BlockRow>, TorchError> {
    let mut blocks: BTreeMap<usize, BlockRow> = BTreeMap::new();
    let mut shared = Vec::new();
    for name in file.names() {
        let read = || -> Result<_, TorchError> {
            Ok(file.read(&name, Device::Cpu)?.to_kind(Kind::Double))
        };
        if let Some((block, part)) = branch_part(&name) {
            let row = blocks.entry(block).or_insert(BlockRow { block, ..BlockRow::default() });
            if ["gate.weight", "gate.bias", "w_o"].contains(&part) {
                row.add(part, &read()?);
            }
        } else if let Some((_, part)) = name.split_once(".adapter.") {
            shared.push((part.to_owned(), read()?));
        }
    }
    // A gate that all blocks share is each block's.
    for row in blocks.values_mut() {
        for (part, tensor) in &shared {
            row.add(part, tensor);
        }
    }
    let mut rows: Vec<BlockRow> = blocks.into_values().collect();
    if let Some(ByDomain { original, new }) = neutrality {
        let seen = |of: &Neutrality, at: usize| {
            let gate_zero_fraction = *of.gate_zero_fraction_per_block.get(at)?;
            Some(Seen { gate_zero_fraction, residue_l1: *of.residue_l1_per_block.get(at)? })
        };
        // Both lists leave out blocks without a branch.
        for (at, row) in rows.iter_mut().enumerate() {
            (row.original, row.new) = (seen(original, at), seen(new, at));
        }
    }
    Ok(rows)
}

/// The norm of a block's tensors so far and one more: it may have branches beside both sub-layers.
fn add_norm(norm: &mut Option<f64>, tensor: &Tensor) {
    *norm = Some(norm.unwrap_or(0.0).hypot(tensor.norm().double_value(&[])));
}

/// Block and part of a branch's weight: `layers.{i}.{module}.adapter.{part}`.
fn branch_part(name: &str) -> Option<(usize, &str)> {
    let (block, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    let (_, part) = rest.split_once(".adapter.")?;
    Some((block.parse().ok()?, part))
}

/// The rows as text; columns that are empty throughout are left out.
pub(super) fn table(rows: &[BlockRow]) -> String {
    let number = |value: f64| format!("{value:.4}");
    let has_gates = rows.iter().any(|row| row.gate_norm.is_some());
    let columns: [(&str, &dyn Fn(&BlockRow) -> Option<String>); 8] = [
        ("block", &|row| Some(row.block.to_string())),
        ("gate ‖w‖", &|row| row.gate_norm.map(number)),
        ("gate bias", &|row| row.gate_bias.map(number)),
        ("‖W_o‖", &|row| row.output_norm.map(number)),
        ("zero, original", &|row| percent(row.original, has_gates)),
        ("zero, new", &|row| percent(row.new, has_gates)),
        ("l1, original", &|row| row.original.map(|seen| number(seen.residue_l1))),
        ("l1, new", &|row| row.new.map(|seen| number(seen.residue_l1))),
    ];
    let kept: Vec<_> =
        columns.iter().filter(|(_, cell)| rows.iter().any(|row| cell(row).is_some())).collect();
    let mut table = vec![kept.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
    let dash = || "–".to_owned();
    table.extend(
        rows.iter()
            .map(|row| kept.iter().map(|(_, cell)| cell(row).unwrap_or_else(dash)).collect()),
    );
    aligned(&table, &vec![true; kept.len()])
}

/// Without a gate, a residue of zero says nothing of gates.
fn percent(seen: Option<Seen>, has_gates: bool) -> Option<String> {
    seen.filter(|_| has_gates).map(|seen| format!("{:.1} %", seen.gate_zero_fraction * 100.0))
}
