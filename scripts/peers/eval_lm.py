"""Times lm-evaluation-harness on a task: from requests' text to log-likelihoods. One JSON line.

The model is loaded and the requests are made before the clock starts, as `neutral bench eval` does.
"""
import argparse
import json
import os
import time

os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "DISABLE_MULTIPROC": "1"}

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--include_path", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    o = parser.parse_args()
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[o.dtype]
    lm = HFLM(pretrained=o.model, dtype=dtype, device="cpu", batch_size=o.batch)
    task = TaskManager(include_path=o.include_path, include_defaults=False).load([o.task])["tasks"][o.task]
    task.build_all_requests(rank=0, world_size=1)
    requests = task.instances
    ask = getattr(lm, requests[0].request_type)
    ask(requests[: 2 * o.batch], disable_tqdm=True)  # libraries start
    clock = time.perf_counter()
    answers = ask(requests, disable_tqdm=True)
    seconds = time.perf_counter() - clock
    scores = [answer[0] if isinstance(answer, tuple) else answer for answer in answers]
    print(json.dumps({
        "peer": "lm_eval", "task": o.task, "batch": o.batch, "dtype": o.dtype, "threads": torch.get_num_threads(),
        "requests": len(scores), "seconds": seconds, "requests_per_s": len(scores) / seconds,
        "mean_log_likelihood": sum(scores) / len(scores),
    }))


if __name__ == "__main__":
    main()
