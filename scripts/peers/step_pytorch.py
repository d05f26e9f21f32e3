"""Throughput of one training step in PyTorch + transformers + PEFT, for the same work that neutral does.

Prints one JSON line per method: tokens/s (median over steps), peak RSS, trainable parameters, last loss.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from shapes import shape_of
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class GluAdapter(nn.Module):
    """Parallel GLU adapter; with gate=True the scalar ReLU block gate of neutral residues."""

    def __init__(self, d, h, layers, gate):
        super().__init__()
        self.wi, self.wg, self.wo = nn.Linear(d, h, bias=False), nn.Linear(d, h, bias=False), nn.Linear(h, d, bias=False)
        std = (1.0 / (d * layers)) ** 0.5
        nn.init.normal_(self.wi.weight, std=std)
        nn.init.normal_(self.wg.weight, std=std)
        nn.init.zeros_(self.wo.weight)
        self.gate = nn.Linear(d, 1, bias=False) if gate else None
        if gate:
            nn.init.normal_(self.gate.weight, std=std)

    def forward(self, x):
        y = self.wo(nn.functional.silu(self.wg(x)) * self.wi(x))
        return y if self.gate is None else torch.relu(self.gate(x)) * y


class AdaptedMlp(nn.Module):
    """An FFN with an adapter beside it, whose output is kept for the local loss if there is one."""

    def __init__(self, mlp, adapter, store):
        super().__init__()
        self.mlp, self.adapter, self.store = mlp, adapter, store

    def forward(self, x):
        y = self.adapter(x)
        if self.store is not None:
            self.store.append(y)
        return self.mlp(x) + y


def build(method, shape, extra, dtype):
    """The model, where it keeps its residues, and the size of its vocabulary."""
    d, L, h, kv, f, v = shape_of(shape)
    torch.manual_seed(0)
    cfg = LlamaConfig(
        hidden_size=d, num_hidden_layers=L, num_attention_heads=h, num_key_value_heads=kv,
        intermediate_size=f, vocab_size=v, max_position_embeddings=2048, tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(cfg)
    store = []
    budget = extra * sum(p.numel() for p in model.parameters())
    if method != "full":
        model.to(dtype)
        for p in model.parameters():
            p.requires_grad_(False)
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        adapted = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "lm_head" not in n]
        r = max(1, round(budget / sum(m.in_features + m.out_features for m in adapted)))
        model = get_peft_model(model, LoraConfig(r=r, lora_alpha=r, target_modules="all-linear"))
    elif method in ("adapter", "neutral"):
        hid = max(8, round(budget / (L * 3 * d) / 8) * 8)
        gated = method == "neutral"
        for block in model.model.layers:
            block.mlp = AdaptedMlp(block.mlp, GluAdapter(d, hid, L, gated), store if gated else None)
    return model, store, v


def step_times(o, method, model, store, vocab):
    """Seconds of every step after the warm-up, and the last loss."""
    model.train()
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=2e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    fwd = torch.compile(model) if o.compile else model
    g = torch.Generator().manual_seed(1)
    times = []
    for i in range(o.warmup + o.steps):
        ids = torch.randint(0, vocab, (o.batch, o.seq), generator=g)
        original = torch.arange(o.batch) < max(1, o.batch // 10)
        start = time.perf_counter()
        store.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.dtype == "bf16"):
            loss = fwd(input_ids=ids, labels=ids).loss
            if method == "neutral":
                loss = loss + 0.01 * torch.stack([y[original].abs().mean() for y in store]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if i >= o.warmup:
            times.append(time.perf_counter() - start)
    return times, loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="full,lora,adapter,neutral")
    parser.add_argument("--shape", default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--extra", type=float, default=0.2)
    o = parser.parse_args()
    dtype = torch.bfloat16 if o.dtype == "bf16" else torch.float32
    for method in o.methods.split(","):
        model, store, vocab = build(method, o.shape, o.extra, dtype)
        times, loss = step_times(o, method, model, store, vocab)
        tokens = o.batch * o.seq
        print(json.dumps(dict(
            peer="pytorch" + ("-compile" if o.compile else ""), torch=torch.__version__,
            method=method, shape=o.shape, batch=o.batch, seq=o.seq, dtype=o.dtype,
            threads=torch.get_num_threads(),
            trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
            total=sum(p.numel() for p in model.parameters()),
            tokens_per_s=round(tokens / statistics.median(times), 1),
            best=round(tokens / min(times), 1),
            loss=round(loss, 4),
            peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )), flush=True)


main()
