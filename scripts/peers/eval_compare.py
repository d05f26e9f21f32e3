"""Compares the scoring of tasks with lm-evaluation-harness, taken in turn on this machine.

The documents are made of a corpus's held-out pages (LibreOffice's help, in English): `arc`, questions of the
length of ARC-Challenge's with four choices of several words; `letters`, MMLU's form, five examples and four
letters, whose choices are one token; `pages`, the rolling log-likelihood of pages. Every measurement is a process
of its own, from the requests' text to log-likelihoods; a round measures both one after the other, and ratios are
of one round. The harness runs at each of its batch sizes, and is compared at its fastest.
"""
import argparse
import json
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from environment import QUIET, ROOT, build_neutral, cache_folder, describe, machine, measured, peer_python, peer_versions

CORPUS = "libreoffice-help/en"
TASKS = {
    "arc": """
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: right
""",
    "letters": """
output_type: multiple_choice
training_split: train
num_fewshot: 5
fewshot_config: {sampler: first_n}
doc_to_text: "{{question}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}\\nAnswer:"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: right
""",
    "pages": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
""",
}
COLUMNS = ["task", "requests", "ours /s", "tokens once", "lm_eval /s", "batch", "ours / lm_eval", "mean LL ours", "lm_eval"]


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench-eval", description=__doc__)
    parser.add_argument("model", metavar="MODEL_FOLDER", type=Path)
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS), help="default: all of " + ",".join(TASKS))
    parser.add_argument("--documents", type=int, default=200, help="of each multiple-choice task; a tenth as many pages [default: 200]")
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16], help="the harness's [default: 1,16]")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add every measurement to FILE, a line each, as it is made")
    parser.add_argument("--from", dest="saved", type=Path, nargs="+", metavar="FILE", help="measure nothing: print the table of such files")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold FILE locked, as flock(1) does, during each measurement")
    return parser.parse_args()


def pages(neutral):
    """The corpus's held-out pages, prepared first if the cache has none."""
    manifest, variant = CORPUS.split("/")
    text = (ROOT / f"data-manifests/{manifest}.yaml").read_text(encoding="utf-8")
    known = re.findall(r"sha256: ([0-9a-f]{64})", re.search(rf"\n  {variant}:\n(?:    .*\n)+", text)[0])
    for attempt in range(2):
        for meta in sorted((cache_folder() / "corpora").glob("*/meta.json")):
            # Other corpora come from the same package.
            if json.loads(meta.read_text()).get("sha256") in known:
                lines = meta.with_name("test.jsonl").read_text(encoding="utf-8").splitlines()
                return [json.loads(line)["text"] for line in lines]
        if attempt == 0:
            subprocess.run([neutral, "data", CORPUS], check=True, stdout=sys.stderr)
    sys.exit(f"bench-eval: {CORPUS} is not in the cache")


def make(folder, texts, documents):
    """Task files and documents, the same for the same corpus."""
    draw = random.Random(0)
    sentences = [s for text in texts for s in re.split(r"(?<=[.?!])\s+|\n", text) if 12 <= len(s.split()) <= 35]
    draw.shuffle(sentences)

    def question(sentence):
        words = sentence.split()
        at = draw.randrange(4, len(words) - 3)
        width = draw.randint(2, min(8, len(words) - at))
        right = draw.randrange(4)
        choices = []
        for i in range(4):
            if i == right:
                choices.append(" ".join(words[at : at + width]))
                continue
            others = draw.choice(sentences).split()
            begin = draw.randrange(len(others) - 3)
            choices.append(" ".join(others[begin : begin + draw.randint(2, 8)]))
        return {"question": " ".join(words[:at]) + " …", "choices": choices, "right": right}

    files = {"train": sentences[:20], "test": sentences[20 : 20 + documents]}
    for split, chosen in files.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(question(s)) + "\n" for s in chosen))
    chosen = draw.sample(texts, min(max(documents // 10, 1), len(texts)))
    (folder / "pages.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen))
    for name, text in TASKS.items():
        data = {"test": str(folder / "pages.jsonl")} if name == "pages" else {s: str(folder / f"{s}.jsonl") for s in files}
        head = f"task: {name}\ndataset_path: json\ntest_split: test\ndataset_kwargs: {json.dumps({'data_files': data})}\n"
        (folder / f"{name}.yaml").write_text(head + text.lstrip())


def measure(o):
    """The machine, then every measurement."""
    neutral, python = build_neutral(), peer_python()
    yield {"machine": machine() | {"peers": peer_versions(python)}}
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary), pages(neutral), o.documents)
        for turn in range(1, o.rounds + 1):
            for task in o.tasks:
                ours = [neutral, "bench", "eval", "--model", o.model, "--tasks", task, "--include-path", temporary,
                        "--batch-size", "auto", "--precision", o.precision, "--device", "cpu", "--json"]
                theirs = [python, Path(__file__).with_name("eval_lm.py"), "--model", o.model, "--task", task,
                          "--include_path", temporary, "--dtype", o.precision]
                runs = [("ours", ours), *((f"batch {n}", [*theirs, "--batch", str(n)]) for n in o.batches)]
                for who, command in runs:
                    found, others = measured(command, o.lock)
                    print(f"round {turn}/{o.rounds}: {task} {who}: {found['requests_per_s']:,.1f} requests/s", file=sys.stderr)
                    yield {"round": turn, "task": task, "who": who, "others": others, "found": found}


def table(lines):
    rows = [COLUMNS]
    for task in dict.fromkeys(line["task"] for line in lines):
        def of(who, key="requests_per_s"):
            found = [line["found"] for line in lines if (line["task"], line["who"]) == (task, who)]
            return [f[key] for f in found]
        peers = dict.fromkeys(line["who"] for line in lines if line["task"] == task and line["who"] != "ours")
        fastest = max(peers, key=lambda who: statistics.median(of(who)))
        ratios = [a / b for a, b in zip(of("ours"), of(fastest))]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        once = of("ours", "computed")[0] / of("ours", "tokens")[0]
        rows.append([task, str(of("ours", "requests")[0]), f"{statistics.median(of('ours')):.1f}", f"{once:.0%}",
                     f"{statistics.median(of(fastest)):.1f}", fastest.removeprefix("batch "), spread,
                     f"{of('ours', 'mean_log_likelihood')[0]:.4f}", f"{of(fastest, 'mean_log_likelihood')[0]:.4f}"])
    widths = [max(map(len, column)) for column in zip(*rows)]
    text = ["| " + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |" for row in rows]
    text.insert(1, "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|")
    return "\n".join(text)


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
    for line in lines:
        if line["others"] > QUIET:
            print(f"doubtful: {line['task']} {line['who']}, round {line['round']}: others used {line['others']:.0%} of the machine")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:  # which has said why itself
        sys.exit(f"bench-eval: {shlex.join(map(str, error.cmd))}: exit status {error.returncode}")
