"""Compares the training step of neutral with its peers, taken in turn on this machine.

Each measurement is a process of its own, so that peak memory is the method's. A round measures ours,
the peer's and the matrix products one after another, and ratios are of one round: what slows the
machine down for a while slows both.
"""
import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from environment import QUIET, ROOT, build_neutral, describe, machine, measured, peer_python, peer_versions

SIZES = {"tiny": (8, 512), "smollm2-135m": (4, 512)}  # batch, sequence length
METHODS = {"finetune": "full", "lora": "lora", "adapter": "adapter", "neutral_residues": "neutral"}
COLUMNS = ["shape", "method", "ours tok/s", "eager", "ours / eager", "compiled", "ours / compiled",
           "bound", "ours / bound", "MiB ours", "MiB eager", "MiB ratio"]


def arguments():
    def names(known):
        def parse(text):
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in known]:
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
            return chosen
        return parse

    parser = argparse.ArgumentParser(prog="scripts/bench-peers", description=__doc__)
    parser.add_argument("--shapes", type=names(SIZES), default=list(SIZES), help="default: all of " + ",".join(SIZES))
    parser.add_argument("--methods", type=names(METHODS), default=list(METHODS), help="default: all of " + ",".join(METHODS))
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--steps", type=int, default=8, help="timed in each process, after 2 that are not [default: 8]")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes a method to start")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add every measurement to FILE, a line each, as it is made")
    parser.add_argument("--from", dest="saved", type=Path, nargs="+", metavar="FILE", help="measure nothing: print the table of such files")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold FILE locked, as flock(1) does, during each measurement")
    return parser.parse_args()


def commands(o, neutral, python):
    """What is measured, in the order of a round: who, shape, method, command."""
    peers = ROOT / "scripts/peers"
    for shape in o.shapes:
        batch, seq = (str(n) for n in SIZES[shape])
        for method in o.methods:
            size = ["--shape", shape, "--batch", batch, "--seq", seq]
            steps = ["--steps", str(o.steps), "--warmup", "2"]
            theirs = [*size, "--methods", METHODS[method], "--dtype", o.precision]
            step = [python, peers / "step_pytorch.py", *theirs, *steps]
            yield "ours", shape, method, [neutral, "bench", "step", *size, *steps, "--method", method, "--precision", o.precision, "--json"]
            yield "eager", shape, method, step
            if o.compile:
                yield "compiled", shape, method, [*step, "--compile"]
            yield "bound", shape, method, [python, peers / "gemm_bound.py", *theirs]


def measure(o):
    """The machine, then every measurement."""
    neutral, python = build_neutral(), peer_python()
    yield {"machine": machine() | {"peers": peer_versions(python)}}
    for turn in range(1, o.rounds + 1):
        for who, shape, method, command in commands(o, neutral, python):
            found, others = measured(command, o.lock)
            print(f"round {turn}/{o.rounds}: {shape} {method} {who}: {found['tokens_per_s']:,.0f} tokens/s", file=sys.stderr)
            yield {"round": turn, "who": who, "shape": shape, "method": method, "others": others, "found": found}


def ratios(ours, theirs):
    """Median of the ratios of rounds that have both, and from where to where they spread."""
    paired = [ours[turn] / theirs[turn] for turn in ours if turn in theirs]
    if not paired:
        return "–"
    spread = f" ({min(paired):.2f}–{max(paired):.2f})" if len(paired) > 1 else ""
    return f"{statistics.median(paired):.2f}{spread}"


def middle(values):
    return f"{statistics.median(values.values()):,.0f}" if values else "–"


def table(lines):
    """One row a shape and method, as Markdown that is aligned."""
    cases = dict.fromkeys((line["shape"], line["method"]) for line in lines)
    rows = [COLUMNS]
    for shape, method in cases:
        def of(who, key):
            # Rounds of several files are told apart by the order of the lines.
            found = [line["found"] for line in lines if (line["shape"], line["method"], line["who"]) == (shape, method, who)]
            return {turn: f[key] for turn, f in enumerate(found)}
        ours, eager, compiled, bound = (of(who, "tokens_per_s") for who in ("ours", "eager", "compiled", "bound"))
        memory, theirs = of("ours", "peak_rss_mib"), of("eager", "peak_rss_mib")
        rows.append([shape, method, middle(ours), middle(eager), ratios(ours, eager), middle(compiled), ratios(ours, compiled),
                     middle(bound), ratios(ours, bound), middle(memory), middle(theirs), ratios(memory, theirs)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    numeric = [i > 1 for i in range(len(COLUMNS))]
    text = ["| " + " | ".join(c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, widths, numeric)) + " |" for row in rows]
    text.insert(1, "|" + "|".join("-" * (w + 1) + (":" if right else "-") for w, right in zip(widths, numeric)) + "|")
    return "\n".join(text)


def doubts(lines):
    """What makes the comparison unfair: a machine shared with others, other threads, or models whose
    sizes differ by more than 2 %."""
    by_case = {}
    for line in lines:
        if line["others"] > QUIET:
            yield f"{line['shape']} {line['method']} {line['who']}, round {line['round']}: others used {line['others']:.0%} of the machine"
        by_case.setdefault((line["shape"], line["method"]), {})[line["who"]] = line["found"]
    for (shape, method), found in by_case.items():
        for who in ("eager", "compiled"):
            if "ours" not in found or who not in found:
                continue
            for key, allowed in (("threads", 0), ("batch", 0), ("seq", 0), ("trainable", 0.02), ("total", 0.02)):
                a, b = found["ours"][key], found[who][key]
                if abs(a - b) > allowed * b:
                    yield f"{shape} {method}: {key} is {a:,} with ours and {b:,} with {who}"


def main():
    o = arguments()
    if o.saved:
        records = [json.loads(line) for path in o.saved for line in path.read_text().splitlines()]
    else:
        records = []
        for record in measure(o):
            records.append(record)
            if o.json:
                with o.json.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    lines = [record for record in records if "who" in record]
    print(table(lines))
    print()
    for text in dict.fromkeys(describe(record["machine"]) for record in records if "machine" in record):
        print(text)
    print("threads:", *sorted({line["found"]["threads"] for line in lines if line["who"] == "ours"}))
    for doubt in doubts(lines):
        print("doubtful:", doubt)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:  # which has said why itself
        sys.exit(f"bench-peers: {shlex.join(map(str, error.cmd))}: exit status {error.returncode}")
