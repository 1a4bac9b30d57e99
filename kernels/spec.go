package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// Mode says whether an output is overwritten or added to. The tape gives Set to the first writer of a
// gradient and Add to the rest.
type Mode int32

const (
	Set Mode = 0
	Add Mode = 1
)

// Seqs describes the sequences whose tokens are the rows of an activation (N, C): no padding anywhere. One
// form serves micro-batches, packing, prompts, KV-cache decode and rollouts.
//
// Sequence s owns query rows [QStart[s], QStart[s+1]) and the last of them is aligned with the last of its
// keys: rows [KStart[s], KStart[s]+KLen[s]) of the key and value tensors. Without a cache KStart = QStart and
// KLen is the sequence's length.
type Seqs struct {
	N, Count, MaxQ, MaxK int    // tokens, sequences, longest query and key run
	QStart               Tensor // I32 (Count+1, 1)
	KStart, KLen         Tensor // I32 (Count, 1)
	Pos                  Tensor // I32 (N, 1): position of each token in its sequence, for RoPE and learned positions
	Key                  Tensor // I32 (N, 2): materialised position and token index, for counter-based randomness
}

// MatMul says how a GEMM reads its operands: c (M, N) = op(a) · op(b).
type MatMul struct {
	TA, TB  bool       // a is stored (K, M); b is stored (N, K)
	Mode    Mode       // Add: c += …
	Bias    Tensor     // F32 (1, N), optional, added to each row
	Compute dtype.Type // what elements of a and b are multiplied as: F32, or BF16 or F16 (rounded to it first); sums are float32
}

// AttnSpec describes scaled dot-product attention over Seqs. q is (N, Heads·HeadDim), k and v are
// (rows, KVHeads·HeadDim); query head h uses key head h/(Heads/KVHeads). Key j is visible to query i of the
// same sequence iff j <= i and, with Window > 0, j > i-Window.
type AttnSpec struct {
	Seqs                    *Seqs
	Heads, KVHeads, HeadDim int
	Window                  int        // 0: all earlier keys
	Scale, Softcap          float32    // Softcap 0: none
	PrefixK, PrefixV        Tensor     // (P, KVHeads·HeadDim), optional: keys visible to every query, never masked
	DPrefixK, DPrefixV      Tensor     // their gradients, optional outputs of AttentionBack; always added to
	Compute                 dtype.Type // of the products, as in MatMul; softmax and its sums are float32
}

// Dropout names a random choice by counters alone, never by node or order: the mask of an element is a hash of
// (Seed, step, position, token, Site, column). Step (I32 (1,1)) is read from device memory.
type Dropout struct {
	Rate float32
	Seed uint64
	Site int32
	Step Tensor
	Key  Tensor // Seqs.Key
}

// Rope options.
type Rope struct {
	HeadDim int
	Scale   float32 // of cos and sin (YaRN's attention factor); 1 usually
	Inverse bool    // rotate back: the gradient
	Mode    Mode
}

// Head is the language-model head on hidden states H (N, C) with the weights W (V, C) and optional bias. It never
// holds all logits: they are made, used and dropped a chunk of tokens at a time.
//
// Phase one fills the per-token numbers that are given: LogP (of Target), LSE, Entropy, Best (arg max). Phase two takes
// Coef = d(loss)/d(LogP) and writes or adds DH and adds to DW. With both LogP and Coef the two phases share one pass
// over the logits (plain cross-entropy: Coef is -1 on target tokens). A Target of -1 is ignored: LogP 0, no gradient.
type Head struct {
	H, W, Bias          Tensor // H and W are F32 or BF16
	Target              Tensor // I32 (N,1)
	LogP, LSE, Entropy  Tensor // F32 (N,1), optional outputs; LSE is an input of a second phase run alone
	Best                Tensor // I32 (N,1), optional output
	Coef                Tensor // F32 (N,1), optional input
	DH, DW, DBias       Tensor // optional outputs; DH is F32 or BF16; DW and DBias are added to
	ModeH               Mode
	SetW                bool       // DW is written instead
	Compute             dtype.Type // of the three products, as in MatMul; everything else is float32
	Softcap, LogitScale float32    // 0: none, 0 = 1
}
