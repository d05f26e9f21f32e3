//! Files whose bytes contradict the format. All of these are read without the declared sizes ever
//! being believed: a test that reserved what it is told to would be killed.

use crate::model::{Encoded, Model, array, bool, error, string, text, texts, u32};

fn broken(change: impl FnOnce(&mut Model)) -> String {
    let mut model = Model::tiny();
    change(&mut model);
    let error = error(&model.bytes());
    let Some((_, found)) = error.split_once("memory is not a sound GGUF file: ") else {
        panic!("another error: {error}");
    };
    found.to_owned()
}

#[test]
fn a_sound_file_is_read() {
    let summary = neutral_gguf::rehearse(&Model::tiny().bytes()).unwrap();
    assert_eq!((summary.tensors, summary.parameters), (11, 16 + 4 + 4 + 16 + 8 + 8 + 16 + 4 + 72));
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = Model::tiny().bytes();
    // The last tensor ends on the alignment: not a byte can be missing.
    for length in 0..bytes.len() {
        assert!(error(&bytes[..length]).contains("is not a sound GGUF file"), "{length}");
    }
}

#[test]
fn every_byte_may_be_wrong_without_a_crash() {
    let bytes = Model::tiny().bytes();
    for at in 0..bytes.len() {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            let _ = neutral_gguf::rehearse(&bytes);
        }
    }
}

#[test]
fn other_formats_versions_and_byte_orders_are_named() {
    assert!(error(b"PK\x03\x04").contains("begins with [80, 75, 3, 4]; it would be \"GGUF\""));
    assert!(broken(|m| m.version = 1).contains("is of version 1; 2 and 3 are read"));
    assert!(broken(|m| m.version = 3 << 24).contains("big-endian"));
    let mut model = Model::tiny();
    model.version = 2;
    neutral_gguf::rehearse(&model.bytes()).unwrap();
}

#[test]
fn counts_beyond_the_file_are_refused() {
    let mut bytes = Model::tiny().bytes();
    bytes[8..16].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    assert!(error(&bytes).contains("declares 9223372036854775807 tensors, which is more than"));
    let mut bytes = Model::tiny().bytes();
    bytes[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(error(&bytes).contains("declares 1099511627776 keys"));
}

#[test]
fn lengths_of_values_beyond_the_file_are_refused() {
    for kind in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12] {
        let declared = broken(|m| _ = m.set("k", array(kind, 1 << 50, &[])));
        assert!(declared.starts_with("k declares 1125899906842624 elements"), "{declared}");
    }
    let long = Encoded(8, u64::MAX.to_le_bytes().to_vec());
    assert!(broken(|m| _ = m.set("k", long)).starts_with("k declares 18446744073709551615 bytes"));
}

#[test]
fn values_of_no_kind_are_refused() {
    assert!(broken(|m| _ = m.set("k", Encoded(13, vec![]))).starts_with("k is of kind 13"));
    assert!(broken(|m| _ = m.set("k", bool(2))).starts_with("k holds a truth value of [2]"));
    let bools = array(7, 3, &[vec![0, 1, 5]]);
    assert!(broken(|m| _ = m.set("k", bools)).starts_with("k holds a truth value of [5]"));
    let bad = Encoded(8, [&4_u64.to_le_bytes()[..], b"ab\xff\xff"].concat());
    assert_eq!(broken(|m| _ = m.set("k", bad)), "k is not UTF-8 from its byte 2 on");
    let nested = array(9, 1, &[array(4, 0, &[]).1]);
    assert!(broken(|m| _ = m.set("k", nested)).starts_with("k is an array of arrays"));
    let strings = array(8, 2, &[string("a"), u64::MAX.to_le_bytes().to_vec()]);
    assert!(broken(|m| _ = m.set("k", strings)).starts_with("k has an element 1 that declares"));
}

#[test]
fn keys_and_tensors_are_there_once() {
    let twice = |m: &mut Model| m.keys.push(("general.architecture".to_owned(), text("llama")));
    assert_eq!(broken(twice), "general.architecture is there twice");
    assert_eq!(
        broken(|m| _ = m.add("output_norm.weight", &[4])),
        "output_norm.weight is there twice"
    );
}

#[test]
fn names_are_printable() {
    let found = broken(|m| _ = m.set("a\u{1b}[2J", text("b")));
    assert_eq!(found, "key 14 is \"a\\u{1b}[2J\"; it would be printable");
    assert!(broken(|m| _ = m.add("", &[1])).starts_with("the name of tensor 11 is \"\""));
}

#[test]
fn alignments_are_powers_of_two() {
    for wrong in [0, 1, 4, 24, 1 << 21] {
        let found = broken(|m| _ = m.set("general.alignment", u32(wrong)));
        assert!(found.starts_with(&format!("general.alignment is {wrong}; it would be a power")));
    }
    let found = broken(|m| _ = m.set("general.alignment", texts(&["x"])));
    assert!(found.starts_with("general.alignment is 1 values of kind string"));
    let found = broken(|m| m.tensor("output_norm.weight").offset = Some(8));
    assert_eq!(found, "output_norm.weight begins at 8, no multiple of 32");
}

#[test]
fn shapes_have_one_to_four_positive_dimensions_whose_product_fits() {
    for dims in [vec![], vec![1; 5]] {
        let n = dims.len();
        let found = broken(|m| m.tensor("output_norm.weight").dims = dims);
        assert_eq!(found, format!("output_norm.weight has {n} dimensions; it would have 1 to 4"));
    }
    for dims in [vec![0], vec![4, 0], vec![u64::MAX, u64::MAX], vec![1 << 32; 2], vec![1 << 63]] {
        let found = broken(|m| m.tensor("output_norm.weight").dims = dims);
        assert!(found.contains("it would hold 1 to 2^63 - 1 weights"), "{found}");
    }
}

#[test]
fn rows_are_whole_blocks() {
    let found = broken(|m| m.tensor("output_norm.weight").number = 12);
    assert_eq!(found, "output_norm.weight is Q4_K with rows of 4; they would be multiples of 256");
}

#[test]
fn tensors_lie_in_the_file_and_apart() {
    for offset in [1 << 20, u64::MAX - 31] {
        let found = broken(|m| m.tensor("output_norm.weight").offset = Some(offset));
        assert!(found.starts_with("output_norm.weight is F32 of shape [4] at"), "{found}");
        assert!(found.contains("past the end of the file"), "{found}");
    }
    let huge = broken(|m| m.tensor("output_norm.weight").dims = vec![1 << 62]);
    assert!(huge.contains("past the end of the file"), "{huge}");
    // token_embd.weight takes the first 64 bytes.
    let found = broken(|m| m.tensor("output_norm.weight").offset = Some(32));
    assert_eq!(found, "output_norm.weight overlaps token_embd.weight");
}
