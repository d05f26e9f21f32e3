//! `model.safetensors`, written as it is decoded: a few hundred KiB are in memory at a time.
//!
//! Format: <https://huggingface.co/docs/safetensors>. The length of a JSON header in eight bytes,
//! the header padded with spaces to a multiple of eight, then the tensors without gaps.

use std::io::{self, Write};

use serde_json::{Map, json};

use crate::dequantize::{bf16, dequantize};
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::plan::{Weight, source_row};
use crate::source::Source;

/// Weights that are decoded at a time: a multiple of every type's block.
const CHUNK: u64 = 1 << 16;

/// What stopped the writing: the file that is read, or the one that is written.
#[derive(Debug)]
pub(crate) enum Failure {
    Read(GgufError),
    Write(io::Error),
}

/// Writes all weights as bf16.
pub(crate) fn write<S: Source>(
    gguf: &Gguf<S>,
    weights: &[Weight],
    out: &mut impl Write,
) -> Result<(), Failure> {
    write_header(weights, out).map_err(Failure::Write)?;
    let mut decoder = Decoder { gguf, bytes: Vec::new(), values: Vec::new(), halves: Vec::new() };
    for weight in weights {
        let columns = weight.tensor.columns();
        match weight.interleaved {
            None => decoder.write(weight, 0, weight.tensor.elements(), out)?,
            Some(head) => {
                for row in 0..weight.tensor.shape[0] {
                    let start = source_row(row, head as u64) * columns;
                    decoder.write(weight, start, columns, out)?;
                }
            }
        }
    }
    Ok(())
}

fn write_header(weights: &[Weight], out: &mut impl Write) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for weight in weights {
        let start = end;
        end += 2 * weight.tensor.elements();
        let entry =
            json!({"dtype": "BF16", "shape": weight.tensor.shape, "data_offsets": [start, end]});
        header.insert(weight.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)
}

/// Buffers that are used again for every chunk.
struct Decoder<'a, S> {
    gguf: &'a Gguf<S>,
    bytes: Vec<u8>,
    values: Vec<f32>,
    halves: Vec<u8>,
}

impl<S: Source> Decoder<'_, S> {
    /// Writes `n` weights from weight `start` on; both are whole numbers of blocks.
    fn write(
        &mut self,
        weight: &Weight,
        start: u64,
        n: u64,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let tensor = weight.tensor;
        // The plan holds tensors of understood types alone.
        let Some((per_block, block)) = tensor.tensor_type.block() else { return Ok(()) };
        for chunk in (start..start + n).step_by(CHUNK as usize) {
            let blocks = CHUNK.min(start + n - chunk) as usize / per_block;
            self.bytes.resize(blocks * block, 0);
            let offset = tensor.offset + chunk / per_block as u64 * block as u64;
            self.gguf.read_exact_at(&mut self.bytes, offset).map_err(Failure::Read)?;
            self.values.clear();
            dequantize(tensor.tensor_type, &self.bytes, &mut self.values);
            self.halves.clear();
            self.halves.extend(self.values.iter().flat_map(|x| bf16(*x).to_le_bytes()));
            out.write_all(&self.halves).map_err(Failure::Write)?;
        }
        Ok(())
    }
}
