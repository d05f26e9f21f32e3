"""What a frozen weight would gain by being kept as oneDNN packs it: the products of a shape, packed and not, in turn.

A line a weight and direction: milliseconds of both (medians) and the median of their ratios, round by round.
"""
import argparse
import statistics
import time

import torch
from shapes import shape_of


def seconds(product):
    started = time.perf_counter()
    product()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=40)
    o = parser.parse_args()
    d, _, h, kv, f, _ = shape_of(o.shape)
    weights = {"q, k, v": (d + 2 * kv * d // h, d), "o": (d, d), "gate, up": (2 * f, d), "down": (d, f)}
    plain_sum = packed_sum = 0.0
    with torch.no_grad():
        for name, (rows, columns) in weights.items():
            for direction, shape in (("forward", (rows, columns)), ("backward", (columns, rows))):
                x = torch.randn(o.rows, shape[1]).bfloat16()
                weight = (torch.randn(shape) / shape[1] ** 0.5).bfloat16()
                kept = torch.ops.mkldnn._reorder_linear_weight(weight, o.rows)
                plain = lambda: torch.nn.functional.linear(x, weight)
                packed = lambda: torch.ops.mkldnn._linear_pointwise(x, kept, None, "none", [], "")
                assert torch.equal(plain(), packed()), "not the same bits"
                rounds = [(seconds(plain), seconds(packed)) for _ in range(o.rounds)][3:]
                of_plain, of_packed = (1e3 * statistics.median(side) for side in zip(*rounds))
                ratio = statistics.median(a / b for a, b in rounds)
                plain_sum, packed_sum = plain_sum + of_plain, packed_sum + of_packed
                print(f"{name:8} {direction:8} {of_plain:7.2f} {of_packed:7.2f} {ratio:6.3f}")
    print(f"{'all':17} {plain_sum:7.2f} {packed_sum:7.2f} {plain_sum / packed_sum:6.3f}")


if __name__ == "__main__":
    main()
