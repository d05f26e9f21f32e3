"""The floor of one training step: the time of its matrix products alone, in the given precision, and nothing else.

Prints one JSON line per method. Products of attention count whole, without the half that causality
would spare, and every frozen layer passes a gradient on: a step that avoids either can come closer
than 100 % says.
"""
import argparse
import json
import statistics
import time

import torch
from shapes import shape_of


def products(method, shape, tokens, seq, extra):
    """(m, k, n, batch, times) of every matrix product in forward and backward."""
    d, L, h, kv, f, v = shape_of(shape)
    hd = d // h
    linears = [(d, h * hd), (d, kv * hd), (d, kv * hd), (h * hd, d), (d, f), (d, f), (f, d)]
    total = L * sum(a * b for a, b in linears) + v * d
    out = []

    def linear(a, b, train, times):
        out.append((tokens, a, b, 1, times))
        out.append((tokens, b, a, 1, times))
        if train:
            out.append((b, tokens, a, 1, times))

    full = method == "full"
    for a, b in linears:
        linear(a, b, full, L)
    linear(d, v, full, 1)
    scores, weighted = (seq, hd, seq), (seq, seq, hd)
    for m, k, n in (scores, weighted, scores, weighted, weighted, weighted):
        out.append((m, k, n, tokens // seq * h, L))
    budget = extra * total
    if method == "lora":
        r = max(1, round(budget / (L * sum(a + b for a, b in linears))))
        for a, b in linears:
            linear(a, r, True, L)
            linear(r, b, True, L)
    if method in ("adapter", "neutral"):
        hid = max(8, round(budget / (L * 3 * d) / 8) * 8)
        for a, b in ((d, hid), (d, hid), (hid, d)):
            linear(a, b, True, L)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="full,lora,adapter,neutral")
    parser.add_argument("--shape", default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--extra", type=float, default=0.2)
    o = parser.parse_args()
    dtype = torch.bfloat16 if o.dtype == "bf16" else torch.float32
    tokens = o.batch * o.seq
    for method in o.methods.split(","):
        secs = flops = 0.0
        for m, k, n, b, times in products(method, o.shape, tokens, o.seq, o.extra):
            x = torch.randn(b, m, k).to(dtype) if b > 1 else torch.randn(m, k).to(dtype)
            w = torch.randn(b, k, n).to(dtype) if b > 1 else torch.randn(n, k).to(dtype).t()
            runs = []
            for _ in range(4):
                start = time.perf_counter()
                x @ w
                runs.append(time.perf_counter() - start)
            secs += times * statistics.median(runs[1:])
            flops += times * 2.0 * m * k * n * b
        print(json.dumps(dict(
            bound="gemm", method=method, shape=o.shape, dtype=o.dtype,
            tokens_per_s=round(tokens / secs, 1),
            gflops=round(flops / secs / 1e9, 1),
            gflop_per_token=round(flops / tokens / 1e9, 3),
        )), flush=True)


main()
