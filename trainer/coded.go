package trainer

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// coded takes gradients out of a device whose memory is not the host's, in the form in which contributions travel: half
// or a quarter of the bytes cross the border. Nothing is lost that would not be lost a moment later, because a contribution
// counts as what it is after its way through the codec: chunks are coded as the collective codes them. To code what was
// coded gives the same bytes again, but for the last bit of some scales.
type coded struct {
	form dtype.Wire
	code kernels.Tensor // (1, bytes) on the device, for as many chunks as fit
	host []byte         // the same on the host
}

// codedBytes is how much goes out at a time: a few milliseconds of a bus.
const codedBytes = 8 << 20

// openCoded makes the coder of a job, or leaves it out where it would save nothing.
func (t *Trainer) openCoded(dev kernels.Device) (err error) {
	form := map[string]dtype.Wire{job.BF16: dtype.WireBF16, job.Int8: dtype.WireInt8}[t.spec.Wire.Gradients]
	if form == 0 || t.elems == 0 || t.stage == nil || t.stage.G.None() || t.stage.G.Buf.Bytes != nil {
		return nil
	}
	t.coded, err = newCoded(dev, form)
	return err
}

func newCoded(dev kernels.Device, form dtype.Wire) (*coded, error) {
	code, err := kernels.Alloc(dev, dtype.I8, 1, max(codedBytes, form.Bytes(layout.MaxChunk)))
	if err != nil {
		return nil, fmt.Errorf("memory for coded gradients: %w", err)
	}
	return &coded{form: form, code: code, host: make([]byte, code.Cols)}, nil
}

func (c *coded) close(dev kernels.Device) {
	if c != nil {
		kernels.Free(dev, c.code.Buf)
	}
}

// download fills dst with g (1, n), which is cut into chunks.
func (c *coded) download(s *kernels.Stream, dst []float32, g kernels.Tensor, chunks []layout.Chunk) error {
	if c == nil {
		return s.Download(dst, g)
	}
	for len(chunks) > 0 && chunks[0].Hi <= g.Cols {
		n, used := 0, 0
		for ; n < len(chunks) && chunks[n].Hi <= g.Cols; n++ {
			size := c.form.Bytes(chunks[n].Len())
			if used+size > c.code.Cols {
				break
			}
			s.EncodeWire(c.code.SliceCols(used, used+size), g.SliceCols(chunks[n].Lo, chunks[n].Hi), c.form)
			used = aligned(used + size)
		}
		if n == 0 { // a chunk that is too long, which an optimizer may want
			return s.Download(dst[chunks[0].Lo:g.Cols], g.SliceCols(chunks[0].Lo, g.Cols))
		}
		used = min(used, c.code.Cols)
		if err := s.DownloadBytes(c.host[:used], c.code.SliceCols(0, used)); err != nil {
			return err
		}
		used = 0
		for _, ch := range chunks[:n] {
			c.form.Decode(dst[ch.Lo:ch.Hi], c.host[used:])
			used = aligned(used + c.form.Bytes(ch.Len()))
		}
		chunks = chunks[n:]
	}
	return s.Err()
}

// aligned is where the next code begins: where a device moves 16 bytes at once.
func aligned(n int) int { return (n + 15) &^ 15 }
