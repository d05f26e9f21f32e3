//! A writer of small GGUF files that can be told to get anything wrong.

/// A value as the file has it: its kind, then its bytes.
#[derive(Clone)]
pub(crate) struct Encoded(pub(crate) u32, pub(crate) Vec<u8>);

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn u32(n: u32) -> Encoded {
    Encoded(4, n.to_le_bytes().to_vec())
}

pub(crate) fn f32(x: f32) -> Encoded {
    Encoded(6, x.to_le_bytes().to_vec())
}

pub(crate) fn bool(b: u8) -> Encoded {
    Encoded(7, vec![b])
}

pub(crate) fn text(text: &str) -> Encoded {
    Encoded(8, string(text))
}

/// An array: the kind of its elements, how many it declares, their bytes.
pub(crate) fn array(kind: u32, length: u64, elements: &[Vec<u8>]) -> Encoded {
    let head = [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
    Encoded(9, [head, elements.concat()].concat())
}

pub(crate) fn texts(items: &[&str]) -> Encoded {
    array(8, items.len() as u64, &items.iter().map(|item| string(item)).collect::<Vec<_>>())
}

pub(crate) fn i32s(items: &[i32]) -> Encoded {
    let items: Vec<_> = items.iter().map(|n| n.to_le_bytes().to_vec()).collect();
    array(5, items.len() as u64, &items)
}

/// A tensor's entry and bytes. Dimensions are innermost first, as in the file.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) number: u32,
    /// From the start of the data; none to put it where it belongs.
    pub(crate) offset: Option<u64>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) version: u32,
    pub(crate) keys: Vec<(String, Encoded)>,
    pub(crate) tensors: Vec<Tensor>,
}

impl Model {
    /// A sound one: one block, 2 heads of width 2 on one key-value head, four tokens.
    pub(crate) fn tiny() -> Self {
        let mut model = Self { version: 3, keys: Vec::new(), tensors: Vec::new() };
        model
            .set("general.architecture", text("llama"))
            .set("llama.block_count", u32(1))
            .set("llama.context_length", u32(16))
            .set("llama.embedding_length", u32(4))
            .set("llama.feed_forward_length", u32(6))
            .set("llama.attention.head_count", u32(2))
            .set("llama.attention.head_count_kv", u32(1))
            .set("llama.attention.layer_norm_rms_epsilon", f32(1e-5))
            .set("tokenizer.ggml.model", text("gpt2"))
            .set("tokenizer.ggml.pre", text("gpt-2"))
            .set("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "<end>"]))
            .set("tokenizer.ggml.token_type", i32s(&[1, 1, 1, 3]))
            .set("tokenizer.ggml.merges", texts(&["a b"]))
            .set("tokenizer.ggml.eos_token_id", u32(3));
        model.add("token_embd.weight", &[4, 4]).add("output_norm.weight", &[4]);
        for (name, dims) in [
            ("attn_norm", &[4][..]),
            ("attn_q", &[4, 4]),
            ("attn_k", &[4, 2]),
            ("attn_v", &[4, 2]),
            ("attn_output", &[4, 4]),
            ("ffn_norm", &[4]),
            ("ffn_gate", &[4, 6]),
            ("ffn_up", &[4, 6]),
            ("ffn_down", &[6, 4]),
        ] {
            model.add(&format!("blk.0.{name}.weight"), dims);
        }
        model
    }

    pub(crate) fn set(&mut self, key: &str, value: Encoded) -> &mut Self {
        self.remove(key);
        self.keys.push((key.to_owned(), value));
        self
    }

    pub(crate) fn remove(&mut self, key: &str) -> &mut Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// Adds a tensor of F32 whose weights are 0, 1, 2, …
    pub(crate) fn add(&mut self, name: &str, dims: &[u64]) -> &mut Self {
        let n = dims.iter().product::<u64>();
        let bytes = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let (name, dims) = (name.to_owned(), dims.to_vec());
        self.tensors.push(Tensor { name, dims, number: 0, offset: None, bytes });
        self
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, Encoded(kind, value)) in &self.keys {
            out.extend(string(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(tensor.number.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

/// What a file's conversion fails with.
pub(crate) fn error(bytes: &[u8]) -> String {
    neutral_gguf::rehearse(bytes).unwrap_err().to_string()
}
