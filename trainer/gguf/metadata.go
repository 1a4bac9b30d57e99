package gguf

import "github.com/seed-7b27c88a/shoal/trainer/model"

// general writes what every file says of itself.
func (h *header) general(name, arch string, tensors []tensor) {
	h.string("general.architecture", arch)
	h.string("general.type", "model")
	if name != "" {
		h.string("general.name", name)
	}
	h.uint32("general.quantization_version", 2)
	h.uint32("general.file_type", most(tensors).fileType())
}

// most is the type of most elements.
func most(tensors []tensor) Type {
	n := map[Type]int64{}
	best := F32
	for i := range tensors {
		t := &tensors[i]
		if n[t.typ] += t.elems(); n[t.typ] > n[best] {
			best = t.typ
		}
	}
	return best
}

// hyperparameters writes the model's shape.
func (h *header) hyperparameters(arch string, m *model.Model) {
	c := m.Config
	h.uint32(arch+".block_count", c.Layers)
	h.uint32(arch+".context_length", context(c))
	h.uint32(arch+".embedding_length", c.Hidden)
	h.uint32(arch+".feed_forward_length", c.Inner)
	h.uint32(arch+".vocab_size", c.Vocab)
	h.uint32(arch+".attention.head_count", c.Heads)
	h.uint32(arch+".attention.head_count_kv", c.KVHeads)
	h.uint32(arch+".attention.key_length", c.HeadDim)
	h.uint32(arch+".attention.value_length", c.HeadDim)
	h.float32(arch+".attention.layer_norm_rms_epsilon", float64(c.Eps))
	h.uint32(arch+".rope.dimension_count", c.HeadDim)
	h.float32(arch+".rope.freq_base", c.Rope.Theta)
	switch r := c.Rope; r.Scaling {
	case "linear":
		h.string(arch+".rope.scaling.type", "linear")
		h.float32(arch+".rope.scaling.factor", r.Factor)
	case "yarn":
		h.string(arch+".rope.scaling.type", "yarn")
		h.float32(arch+".rope.scaling.factor", r.Factor)
		h.uint32(arch+".rope.scaling.original_context_length", int(r.Context))
	}
}

// context is the longest sequence. llama.cpp's llama and qwen2 know no windows: up to the smallest of them that is the
// same model, beyond it would be another.
func context(c *model.Config) int {
	n := c.MaxPos
	for _, w := range c.Windows {
		if w > 0 {
			n = min(n, w)
		}
	}
	return n
}
