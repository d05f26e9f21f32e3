"""Model shapes that peers and bound are measured at; the same names as in `neutral bench step`."""

SHAPES = {  # d, layers, heads, kv_heads, ffn, vocab
    "tiny": (256, 8, 4, 4, 704, 8192),
    "small": (512, 8, 8, 8, 1408, 16384),
    "smollm2-135m": (576, 30, 9, 3, 1536, 49152),
}


def shape_of(name):
    """A named shape, or d,layers,heads,kv_heads,ffn,vocab."""
    return SHAPES.get(name) or tuple(int(x) for x in name.split(","))
