"""What PyTorch reaches on this GPU: the figures of `shoal bench cuda`, under the same names, as JSON.

Each figure is the best of several queues of calls. Products: torch.matmul. Attention: scaled_dot_product_attention, causal.
Steps: a Llama of the same shape in bfloat16 with float32 master weights, autocast, fused AdamW, clipping; eager and compiled.
"""
import json, sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F

out = {}


def best(n, f, queues=5):
    f()
    torch.cuda.synchronize()
    least = 1e9
    for _ in range(queues):
        t = time.perf_counter()
        for _ in range(n):
            f()
        torch.cuda.synchronize()
        least = min(least, time.perf_counter() - t)
    return least / n


def put(name, value, unit):
    out[name] = {"name": name, "value": value, "unit": unit}
    print(name, round(value, 1), unit, file=sys.stderr, flush=True)


def copies():
    n = 1 << 26
    x, y = torch.ones(n, device="cuda"), torch.empty(n, device="cuda")
    put("copy on the GPU", 8 * n / best(20, lambda: y.copy_(x)) / 1e9, "GB/s")


def products():
    shapes = [(8192, 8192, 8192), (16384, 768, 768), (16384, 2048, 768), (8192, 2048, 2048), (8192, 5632, 2048), (8192, 2048, 5632)]
    for typ, name in ((torch.bfloat16, "bf16"), (torch.float32, "f32")):
        for m, n, k in shapes:
            if name == "f32" and m == n == 8192:
                m = n = k = 4096
            for layout in ("nt", "nn", "tn"):
                a = torch.randn((k, m) if layout == "tn" else (m, k), device="cuda").to(typ)
                b = torch.randn((n, k) if layout == "nt" else (k, n), device="cuda").to(typ)
                a = a.t() if layout == "tn" else a
                b = b.t() if layout == "nt" else b
                c = torch.empty((m, n), device="cuda", dtype=typ)
                put(f"gemm {m}x{n}x{k} {layout} {name}", 2 * m * n * k / best(20, lambda: torch.matmul(a, b, out=c)) / 1e12, "TFLOP/s")


def attention():
    seqs, tokens, heads = 4, 2048, 16
    for dim in (64, 128):
        q, k, v = (torch.randn(seqs, heads, tokens, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
        pairs = seqs * heads * tokens * (tokens + 1) / 2
        with torch.no_grad():
            t = best(10, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        put(f"attention forward d{dim}", 4 * pairs * dim / t / 1e12, "TFLOP/s")
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        do = torch.randn_like(o)
        t = best(10, lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True))
        put(f"attention backward d{dim}", 10 * pairs * dim / t / 1e12, "TFLOP/s")


class RMSNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.w = nn.Parameter(torch.ones(c))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.w.to(x.dtype), 1e-5)


class Linear(nn.Linear):
    """A linear layer, with a LoRA adapter if rank is set."""

    def __init__(self, i, o, rank=0):
        super().__init__(i, o, bias=False)
        self.rank = rank
        if rank:
            self.weight.requires_grad = False
            self.a, self.b = nn.Parameter(torch.randn(rank, i) / i ** 0.5), nn.Parameter(torch.zeros(o, rank))

    def forward(self, x):
        y = super().forward(x)
        return y + F.linear(F.linear(x, self.a), self.b) * (32 / self.rank) if self.rank else y


class Block(nn.Module):
    def __init__(self, c, inner, heads, kv, rank):
        super().__init__()
        self.heads, self.kv, self.dim = heads, kv, c // heads
        self.n1, self.n2 = RMSNorm(c), RMSNorm(c)
        self.q, self.k, self.v = Linear(c, c, rank), Linear(c, kv * self.dim, rank), Linear(c, kv * self.dim, rank)
        self.o, self.gate, self.up, self.down = Linear(c, c, rank), Linear(c, inner, rank), Linear(c, inner, rank), Linear(inner, c, rank)

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        h = self.n1(x)
        q = self.q(h).view(b, t, self.heads, self.dim).transpose(1, 2)
        k = self.k(h).view(b, t, self.kv, self.dim).transpose(1, 2)
        v = self.v(h).view(b, t, self.kv, self.dim).transpose(1, 2)

        def turn(u):
            lo, hi = u.chunk(2, -1)
            return torch.cat((lo * cos - hi * sin, hi * cos + lo * sin), -1)

        y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True, enable_gqa=self.heads != self.kv)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, c))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, c, inner, layers, heads, kv, vocab, tied, rank=0):
        super().__init__()
        self.emb = nn.Embedding(vocab, c)
        self.blocks = nn.ModuleList(Block(c, inner, heads, kv, rank) for _ in range(layers))
        self.norm, self.head = RMSNorm(c), nn.Linear(c, vocab, bias=False)
        if tied:
            self.head.weight = self.emb.weight
        if rank:
            for name, p in self.named_parameters():
                p.requires_grad = name.endswith((".a", ".b"))
        dim = c // heads
        angle = torch.outer(torch.arange(2048).float(), 10000 ** (-torch.arange(0, dim, 2).float() / dim))
        self.register_buffer("cos", angle.cos().to(torch.bfloat16))
        self.register_buffer("sin", angle.sin().to(torch.bfloat16))

    def forward(self, ids):
        x = self.emb(ids)
        for blk in self.blocks:
            x = blk(x, self.cos, self.sin)
        z = self.head(self.norm(x))
        return F.cross_entropy(z[:, :-1].reshape(-1, z.shape[-1]).float(), ids[:, 1:].reshape(-1))


SHAPES = {"llama124m": (768, 2048, 12, 12, 12, 32000, True), "llama1b": (2048, 5632, 22, 32, 4, 32000, False)}


def step(name, model, batch, rank, compiled):
    torch.manual_seed(1)
    m = Llama(*SHAPES[model], rank=rank).cuda()
    if rank:
        m = m.to(torch.bfloat16)
    params = [p for p in m.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=1e-4, fused=True)
    ids = torch.randint(0, 32000, (batch, 2048), device="cuda")
    run = torch.compile(m) if compiled else m

    def one():
        with torch.autocast("cuda", torch.bfloat16):
            loss = run(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)

    one(), one()
    put(name + (" compiled" if compiled else ""), batch * 2048 / best(3, one, queues=3), "tokens/s")
    del m, opt, params, run
    torch.cuda.empty_cache()


def steps():
    for name, model, batch, rank in (("step llama124m B8 T2048 bf16", "llama124m", 8, 0), ("step llama1b B4 T2048 bf16", "llama1b", 4, 0),
                                     ("step llama1b B4 T2048 bf16 lora", "llama1b", 4, 16)):
        for compiled in ((False, True) if rank == 0 else (False,)):
            try:
                step(name, model, batch, rank, compiled)
            except Exception as e:  # out of memory, a compiler that is missing: the other rows are worth having
                print(name, compiled, e, file=sys.stderr)


PARTS = {"copy": copies, "gemm": products, "attention": attention, "step": steps}
for part in sys.argv[1:] or PARTS:
    PARTS[part]()
json.dump(list(out.values()), sys.stdout)
