"""Reference values of small models, computed in float64 with PyTorch, for the architectures that the tests cannot take
from elsewhere. It follows the papers and the released configurations, token by token and head by head, and shares
nothing with the Go code. Run it in this folder: python3 oracle.py; it rewrites the folders beside it.

Each folder has config.json and model.safetensors (float32, the names of Hugging Face), io.safetensors (input_ids,
labels, logits_f64), grads_f64.safetensors and meta.json. Every gradient is held against central differences here.
"""
import json
import math
import os
import struct

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
V, C, CTX = 48, 16, 64


def save(path, tensors):
    kinds = {"float32": "F32", "float64": "F64", "int64": "I64"}
    head, body = {}, b""
    for name, x in tensors.items():
        x = np.ascontiguousarray(x)
        raw = x.tobytes()
        head[name] = {"dtype": kinds[str(x.dtype)], "shape": list(x.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


# What rotates -----------------------------------------------------------------------------------------------------

def inverse_frequencies(c, dim):
    """Angles per position of each pair, and the factor of cosines and sines."""
    theta = c.get("rope_theta", 10000.0)
    plain = [1.0 / theta ** (2 * i / dim) for i in range(dim // 2)]
    s = c.get("rope_scaling") or {}
    kind = s.get("rope_type", s.get("type", "default"))
    if kind == "default":
        return plain, 1.0
    if kind == "linear":
        return [f / s["factor"] for f in plain], 1.0
    if kind == "longrope":
        old, new = c["original_max_position_embeddings"], c["max_position_embeddings"]
        return [f / e for f, e in zip(plain, s["short_factor"])], math.sqrt(1 + math.log(new / old) / math.log(old))
    assert kind == "yarn"
    factor, old = s["factor"], s["original_max_position_embeddings"]

    def dim_of(turns):  # the pair whose wave turns so often in the old context
        return dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))

    lo = max(math.floor(dim_of(s.get("beta_fast", 32))), 0)
    hi = min(math.ceil(dim_of(s.get("beta_slow", 1))), dim - 1)
    out = []
    for i, f in enumerate(plain):
        t = (i - lo) / ((hi - lo) or 0.001)
        t = 0.0 if t < 0 else 1.0 if t > 1 else t
        out.append((1 - t) * f + t * f / factor)
    return out, s.get("attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1.0)


def rotate(x, pos, freqs, stretch):
    """x (dim): pairs (i, i + dim/2) as complex numbers, turned."""
    half = x.shape[0] // 2
    angle = torch.tensor([pos * f for f in freqs])
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.full_like(angle, stretch), angle)
    return torch.cat([turned.real, turned.imag])


# The parts --------------------------------------------------------------------------------------------------------

def rms(x, w, eps, shift=0.0):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * (shift + w)


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def silu(x):
    return x / (1 + torch.exp(-x))


def window_of(c, layer):
    """Keys that a query of the layer sees; None: all."""
    w, kind = c.get("sliding_window"), c["model_type"]
    if "layer_types" in c:
        return w if c["layer_types"][layer] == "sliding_attention" else None
    if kind == "gemma2":
        return w if layer % 2 == 0 else None
    if kind in ("qwen2", "qwen3"):
        return w if c.get("use_sliding_window") and layer >= c["max_window_layers"] else None
    return w if kind in ("mistral", "phi3") else None


def attend(c, layer, q, k, v):
    """q (T, H, d), k and v (T, KV, d): one query and one head at a time."""
    T, H, d = q.shape
    share = H // k.shape[1]
    scale = c.get("query_pre_attn_scalar", d) ** -0.5
    cap, w = c.get("attn_logit_softcapping"), window_of(c, layer)
    rows = []
    for t in range(T):
        first = 0 if w is None else max(0, t - w + 1)
        heads = []
        for h in range(H):
            s = (k[first:t + 1, h // share] * q[t, h]).sum(-1) * scale
            if cap:
                s = cap * torch.tanh(s / cap)
            e = torch.exp(s - s.max())
            heads.append((v[first:t + 1, h // share] * (e / e.sum()).unsqueeze(-1)).sum(0))
        rows.append(torch.cat(heads))
    return torch.stack(rows)


def forward(c, w, ids):
    kind, eps = c["model_type"], c["rms_norm_eps"]
    H, KV, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    shift = 1.0 if kind == "gemma2" else 0.0
    freqs, stretch = inverse_frequencies(c, d)
    x = w["model.embed_tokens.weight"][ids]
    if kind == "gemma2":
        x = x * math.sqrt(c["hidden_size"])
    for i in range(c["num_hidden_layers"]):
        def p(name):
            return w["model.layers.%d.%s" % (i, name)]

        def linear(name, h):
            y = h @ p(name + ".weight").t()
            bias = "model.layers.%d.%s.bias" % (i, name)
            return y + w[bias] if bias in w else y

        h = rms(x, p("input_layernorm.weight"), eps, shift)
        if kind == "phi3":
            q, k, v = linear("self_attn.qkv_proj", h).split([H * d, KV * d, KV * d], -1)
        else:
            q, k, v = (linear("self_attn.%s_proj" % n, h) for n in "qkv")
        T = len(ids)
        q, k, v = q.reshape(T, H, d), k.reshape(T, KV, d), v.reshape(T, KV, d)
        if kind == "qwen3":
            q, k = rms(q, p("self_attn.q_norm.weight"), eps), rms(k, p("self_attn.k_norm.weight"), eps)
        q = torch.stack([torch.stack([rotate(q[t, j], t, freqs, stretch) for j in range(H)]) for t in range(T)])
        k = torch.stack([torch.stack([rotate(k[t, j], t, freqs, stretch) for j in range(KV)]) for t in range(T)])
        h = linear("self_attn.o_proj", attend(c, i, q, k, v))
        if kind == "gemma2":
            x = x + rms(h, p("post_attention_layernorm.weight"), eps, shift)
            h = rms(x, p("pre_feedforward_layernorm.weight"), eps, shift)
        else:
            x = x + h
            h = rms(x, p("post_attention_layernorm.weight"), eps)
        if kind == "phi3":
            gate, up = linear("mlp.gate_up_proj", h).chunk(2, -1)
        else:
            gate, up = linear("mlp.gate_proj", h), linear("mlp.up_proj", h)
        h = linear("mlp.down_proj", (gelu_tanh if kind == "gemma2" else silu)(gate) * up)
        if kind == "gemma2":
            h = rms(h, p("post_feedforward_layernorm.weight"), eps, shift)
        x = x + h
    x = rms(x, w["model.norm.weight"], eps, shift)
    y = x @ (w["model.embed_tokens.weight"] if c["tie_word_embeddings"] else w["lm_head.weight"]).t()
    cap = c.get("final_logit_softcapping")
    return cap * torch.tanh(y / cap) if cap else y


# The models -------------------------------------------------------------------------------------------------------

def shapes(c):
    kind, I = c["model_type"], c["intermediate_size"]
    wide, narrow = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    out = {"model.embed_tokens.weight": (V, C)}
    for i in range(c["num_hidden_layers"]):
        s = {"input_layernorm.weight": (C,), "post_attention_layernorm.weight": (C,), "self_attn.o_proj.weight": (C, wide),
             "mlp.down_proj.weight": (C, I)}
        if kind == "phi3":
            s["self_attn.qkv_proj.weight"], s["mlp.gate_up_proj.weight"] = (wide + 2 * narrow, C), (2 * I, C)
        else:
            s["self_attn.q_proj.weight"] = (wide, C)
            s["self_attn.k_proj.weight"] = s["self_attn.v_proj.weight"] = (narrow, C)
            s["mlp.gate_proj.weight"] = s["mlp.up_proj.weight"] = (I, C)
        if kind == "qwen2":
            s["self_attn.q_proj.bias"], s["self_attn.k_proj.bias"], s["self_attn.v_proj.bias"] = (wide,), (narrow,), (narrow,)
        if kind == "qwen3":
            s["self_attn.q_norm.weight"] = s["self_attn.k_norm.weight"] = (c["head_dim"],)
        if kind == "gemma2":
            s["pre_feedforward_layernorm.weight"] = s["post_feedforward_layernorm.weight"] = (C,)
        out.update({"model.layers.%d.%s" % (i, n): v for n, v in s.items()})
    out["model.norm.weight"] = (C,)
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (V, C)
    return out


def config(kind, **more):
    c = dict(model_type=kind, hidden_size=C, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, vocab_size=V, max_position_embeddings=CTX, rms_norm_eps=1e-5,
             rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=False)
    c.update(more)
    return c


MODELS = {
    "qwen3": config("qwen3", tie_word_embeddings=True, rope_theta=1e6, use_sliding_window=False, sliding_window=None),
    "gemma2": config("gemma2", num_hidden_layers=3, tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh",
                     query_pre_attn_scalar=12, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, sliding_window=4),
    "phi3": config("phi3", sliding_window=5, rope_scaling=None),
    "phi3_longrope": config("phi3", original_max_position_embeddings=32, sliding_window=None, rope_scaling=dict(
        type="longrope", short_factor=[1.0, 1.1, 1.5, 2.25], long_factor=[1.0, 2.0, 4.0, 8.0])),
    "llama_yarn": config("llama", head_dim=16, num_attention_heads=2, num_key_value_heads=1, rope_theta=100.0, rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=2.0, beta_slow=0.5)),
    "qwen2_yarn": config("qwen2", rope_scaling=dict(type="yarn", factor=2.0, original_max_position_embeddings=32),
                         use_sliding_window=True, sliding_window=3, max_window_layers=1),
    "mistral_types": config("mistral", sliding_window=3, layer_types=["full_attention", "sliding_attention"], rope_scaling=dict(
        type="linear", factor=2.5)),
}


def draw(c, rng):
    w = {}
    for name, shape in shapes(c).items():
        base = 0.0 if len(shape) == 2 or name.endswith("bias") or c["model_type"] == "gemma2" else 1.0
        w[name] = (base + 0.35 * rng.standard_normal(shape)).astype(np.float32)
    return w


def loss_of(c, w, ids, labels):
    """Mean cross-entropy: labels[t] is what the token before it has to predict."""
    total, n, logits = 0.0, 0, []
    for row, want in zip(ids, labels):
        y = forward(c, w, row)
        logits.append(y)
        logp = y - torch.logsumexp(y, -1, keepdim=True)
        for t in range(1, len(row)):
            if want[t] >= 0:
                total, n = total - logp[t - 1, want[t]], n + 1
    return total / n, torch.stack(logits)


def check(c, w, ids, labels, rng):
    """Every tensor's gradient along a random direction, and every element of the small ones."""
    for name, x in w.items():
        ways = [rng.standard_normal(x.shape)]
        if x.numel() <= 16:
            ways += list(np.eye(x.numel()).reshape(-1, *x.shape))
        for way in ways:
            way, h, ends = torch.tensor(way), 1e-6, []
            for sign in (1, -1):
                moved = {k: v.detach() for k, v in w.items()}
                moved[name] = moved[name] + sign * h * way
                ends.append(loss_of(c, moved, ids, labels)[0].item())
            want = (ends[0] - ends[1]) / (2 * h)
            got = (x.grad * way).sum().item()
            assert abs(got - want) < 1e-7 + 1e-6 * abs(want), (name, got, want)


def greedy(c, w, prompt, n):
    ids, gap = list(prompt), 1e9
    for _ in range(n):
        y = forward(c, w, torch.tensor(ids))[-1]
        best = torch.topk(y, 2).values
        gap = min(gap, (best[0] - best[1]).item())
        ids.append(int(y.argmax()))
    return ids[len(prompt):], gap


def main():
    for seed, (name, c) in enumerate(MODELS.items()):
        rng = np.random.default_rng(100 + seed)
        stored = draw(c, rng)
        w = {k: torch.tensor(v.astype(np.float64), requires_grad=True) for k, v in stored.items()}
        ids = rng.integers(0, V, (2, 14))
        labels = ids.copy()
        labels[0, :4], labels[1, 9] = -100, -100
        t_ids = torch.tensor(ids)
        loss, logits = loss_of(c, w, t_ids, labels)
        loss.backward()
        check(c, w, t_ids, labels, rng)
        every = loss_of(c, w, t_ids, ids)[0].item()
        plain = {k: v.detach() for k, v in w.items()}
        prompt = [int(i) for i in ids[0, :5]]
        new, gap = greedy(c, plain, prompt, 12)
        os.makedirs(name, exist_ok=True)
        with open(name + "/config.json", "w") as f:
            json.dump(c, f, indent=1)
        save(name + "/model.safetensors", stored)
        save(name + "/io.safetensors", {"input_ids": ids, "labels": labels, "logits_f64": logits.detach().numpy()})
        save(name + "/grads_f64.safetensors", {k: v.grad.numpy() for k, v in w.items()})
        with open(name + "/meta.json", "w") as f:
            json.dump({"loss_f64": loss.item(), "loss_all_labels_f64": every, "greedy_prompt": prompt, "greedy_new": new,
                       "greedy_smallest_gap": gap}, f, indent=1)
        print("%-14s loss %.6f, smallest gap %.4f" % (name, loss.item(), gap))


main()
