"""A training step of a 15M Llama or of GPT-2 124M in PyTorch, as a fair peer: random weights, forward, backward, clipping
and AdamW (foreach), nothing recomputed, attention by whole matrices of scores, which is all that torch 1.13 has on a CPU.
Query, key and value are one product, as are gate and up. With bf16 the forward pass runs under autocast; weights,
gradients and moments stay float32.

    OPENBLAS_CORETYPE=Cooperlake OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx512 \
        python3 step.py llama15m 4 256 [steps [fp32|bf16]]

Without OPENBLAS_CORETYPE Debian's OpenBLAS does not know newer processors and takes slower kernels. Prints one JSON line
with the keys of trainer/trainbench: seconds and processor seconds of a step (medians, the first step left out), the
memory of the process when the model was there, and at most.
"""
import contextlib
import json
import math
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F

MODELS = {
    "llama15m": dict(dim=288, layers=6, heads=6, inner=768, vocab=32000, context=1024, llama=True),
    "gpt2": dict(dim=768, layers=12, heads=12, inner=3072, vocab=50257, context=1024, llama=False),
}


class RMSNorm(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Block(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        norm = RMSNorm if c["llama"] else torch.nn.LayerNorm
        bias = not c["llama"]
        self.n1, self.n2 = norm(c["dim"]), norm(c["dim"])
        self.qkv = torch.nn.Linear(c["dim"], 3 * c["dim"], bias=bias)
        self.out = torch.nn.Linear(c["dim"], c["dim"], bias=bias)
        self.up = torch.nn.Linear(c["dim"], (2 if c["llama"] else 1) * c["inner"], bias=bias)
        self.down = torch.nn.Linear(c["inner"], c["dim"], bias=bias)

    def forward(self, x, mask, cos, sin):
        b, t, dim = x.shape
        heads = self.c["heads"]
        q, k, v = (y.view(b, t, heads, -1).transpose(1, 2) for y in self.qkv(self.n1(x)).split(dim, dim=-1))
        if self.c["llama"]:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        p = F.softmax(q @ k.transpose(-1, -2) / math.sqrt(dim // heads) + mask, dim=-1)
        x = x + self.out((p @ v).transpose(1, 2).reshape(b, t, dim))
        h = self.up(self.n2(x))
        if self.c["llama"]:
            gate, up = h.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(h, approximate="tanh"))


class Model(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = torch.nn.Embedding(c["vocab"], c["dim"])
        self.places = None if c["llama"] else torch.nn.Embedding(c["context"], c["dim"])
        self.blocks = torch.nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["dim"]) if c["llama"] else torch.nn.LayerNorm(c["dim"])
        torch.nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids):
        t = ids.shape[1]
        mask = torch.full((t, t), float("-inf")).triu(1)
        half = self.c["dim"] // self.c["heads"] // 2
        angles = torch.arange(t)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        x = self.embed(ids)
        if self.places is not None:
            x = x + self.places(torch.arange(t))
        for block in self.blocks:
            x = block(x, mask, angles.cos(), angles.sin())
        return F.linear(self.norm(x), self.embed.weight)


def status(key):
    """Bytes of memory of this process: VmRSS now, VmHWM at most."""
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def main():
    name, batch, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    dtype = sys.argv[5] if len(sys.argv) > 5 else "fp32"
    c = MODELS[name]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    torch.manual_seed(0)
    model = Model(c)
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext()
    before = status("VmRSS")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    ids = torch.randint(c["vocab"], (batch, length + 1))
    wall, cpu = [], []
    for _ in range(1 + steps):
        wall.append(time.perf_counter())
        cpu.append(time.process_time())
        with cast:
            logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, c["vocab"]), ids[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wall[-1] = time.perf_counter() - wall[-1]
        cpu[-1] = time.process_time() - cpu[-1]
    print(json.dumps(dict(name=f"{name} B{batch} T{length} {dtype}", threads=torch.get_num_threads(), tokens=batch * length,
                          seconds=statistics.median(wall[1:]), cpu_seconds=statistics.median(cpu[1:]), loss=float(loss),
                          rss_before=before, rss_peak=status("VmHWM"))))


main()
