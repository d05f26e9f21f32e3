//! A gate with a window in a model: however the text is read, it sees the same.

use neutral_model::{Attention, Extension, Input, PrefixTree, Transformer};
use neutral_spec::{BranchPlacement, GateSpec, Precision};
use tch::Tensor;

use crate::contract::{frozen_base, trained};
use crate::methods::shared;

const IDS: [i64; 9] = [5, 3, 7, 0, 6, 2, 9, 4, 8];

fn read(base: &Transformer, extension: &Extension, ids: &[i64], attention: Attention) -> Tensor {
    let tokens_bt = Tensor::from_slice(ids).unsqueeze(0);
    tch::no_grad(|| base.forward(&Input { tokens_bt, attention }, extension).hidden_btd)
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    a.allclose(b, 1e-9, 1e-9, false)
}

#[test]
fn text_in_one_call_in_pieces_or_along_paths_is_the_same_to_a_windowed_gate() {
    let base = frozen_base(Precision::Fp64);
    let gate = |window| GateSpec { bias: Some(1.0), window, ..GateSpec::default() };
    let extension = |window| trained(&base, &shared(gate(window), BranchPlacement::Both), 0);
    let (windowed, plain) = (extension(Some(3)), extension(None));
    let whole = read(&base, &windowed, &IDS, Attention::Causal);

    let mut cache = base.cache();
    let pieces = [0..4, 4..5, 5..9].map(|range| {
        let tokens_bt = Tensor::from_slice(&IDS[range]).unsqueeze(0);
        base.forward_cached(&tokens_bt, &mut cache, &windowed).hidden_btd
    });
    assert!(close(&Tensor::cat(&pieces, 1), &whole));

    let mut tree = PrefixTree::default();
    let trunk = tree.push(None, 4);
    let _ = tree.push(Some(trunk), 5);
    let _ = tree.push(Some(trunk), 2);
    let rows = [&IDS[..], &[1, 2]].concat();
    let tokens_bt = Tensor::from_slice(&rows).unsqueeze(0);
    let paths = base.forward_prefixes(&tokens_bt, &tree, &windowed).hidden_btd;
    assert!(close(&paths.narrow(1, 0, 9), &whole));
    let other = read(&base, &windowed, &[&IDS[..4], &[1, 2]].concat(), Attention::Causal);
    assert!(close(&paths.narrow(1, 9, 2), &other.narrow(1, 4, 2)));

    // The token 0 begins a document, and what is before it is not read.
    let within = Attention::WithinDocument { separator_id: 0 };
    let alone = read(&base, &windowed, &IDS[3..], Attention::Causal);
    assert!(close(&read(&base, &windowed, &IDS, within).narrow(1, 3, 6), &alone));
    assert!(!close(&whole.narrow(1, 3, 6), &alone));
    // And the window matters at all.
    assert!(!close(&whole, &read(&base, &plain, &IDS, Attention::Causal)));
}
