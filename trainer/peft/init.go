package peft

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Weights are the adapter's parameters.
func (l *LoRA) Weights() []*autograd.Param { return l.Params }

// Read fills dst with the value that p starts from: the stored one, or for a fresh adapter A = U(±1/√in), which is
// PyTorch's kaiming_uniform with a = √5, and B = 0.
func (l *LoRA) Read(p *autograd.Param, dst []float32) error {
	if l.stored != nil {
		return l.stored.ReadF32(p.Name, dst)
	}
	if strings.Contains(p.Name, ".lora_B.") {
		clear(dst)
		return nil
	}
	uniform(dst, l.seed, p.Name, 1/math.Sqrt(float64(p.Cols)))
	return nil
}

// uniform draws from [-bound, bound) with ChaCha8 keyed by seed and name: the same on every node, whatever else is drawn.
func uniform(dst []float32, seed uint64, name string, bound float64) {
	key := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("shoal lora init "+name+" "), seed))
	src := rand.NewChaCha8(key)
	for i := range dst {
		u := float64(src.Uint64()>>40) / (1 << 24) // 24 bits, [0, 1)
		dst[i] = float32((2*u - 1) * bound)
	}
}

// mask names the mask of one layer: it depends on the job's seed, the step, the token and the layer alone.
func mask(c *model.Ctx, l *LoRA, p *pair) kernels.Dropout {
	return kernels.Dropout{Rate: float32(l.Dropout), Seed: l.seed, Site: p.site, Step: c.Step, Key: c.Seqs.Key}
}
