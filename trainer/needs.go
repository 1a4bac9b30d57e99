package trainer

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// Staging is what agreement on stages has to know of a job: told from the descriptions of its model and adapter alone.
type Staging struct {
	Units int     // that a pass goes through one after the other: embedding 0, blocks, head
	Of    [][]int // per chunk of the layout: the units whose members have a gradient there
}

// Stages tells it.
func Stages(spec *job.Spec, files, adapter model.Files) (s Staging, err error) {
	p, err := open(spec, files, adapter)
	if err != nil {
		return s, err
	}
	s.Units = p.model.Row()
	for c := range p.layout.Chunks {
		s.Of = append(s.Of, p.unitsOf(c))
	}
	return s, p.Close()
}

// Unit lists the units whose members have a gradient in a chunk, ascending: one, or both ends for a table that they
// share, or all for what an adapter makes once for every layer.
func (t *Trainer) Unit(chunk int) []int { return t.unitsOf(chunk) }

func (p *parts) unitsOf(chunk int) (units []int) {
	segments := p.segments(p.layout.Chunks[chunk])
	for u := range p.model.Row() {
		part := model.Part{Lo: u, Hi: u + 1}
		if slices.ContainsFunc(segments, func(q *autograd.Param) bool { return p.model.Holds(part, p.over(), q) }) {
			units = append(units, u)
		}
	}
	return units
}

// segments are the weights that have a place in a chunk; of estimates of curvature, those that they are of.
func (p *parts) segments(ch layout.Chunk) (ps []*autograd.Param) {
	for _, s := range p.layout.Segments(ch.Lo, ch.Hi) {
		ps = append(ps, p.trained[s.Param%len(p.trained)])
	}
	return ps
}

// Extent is the bytes [Lo, Hi) of one of a model's files.
type Extent struct {
	Path   string
	Lo, Hi int64
}

// Needs lists which bytes of the weights' files are read by a member that is made with Config.Whole (fresh), which wants
// what all that learns starts from, or is given another part later: the files' heads, and the part's frozen weights. The
// zero Part has none. Files that hold no weights are not listed: they are small, and read whole.
func Needs(spec *job.Spec, files, adapter model.Files, part model.Part, fresh bool) (all []Extent, err error) {
	named := &namedFiles{Files: files}
	p, err := open(spec, named, adapter)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	learns := map[*autograd.Param]bool{}
	for _, q := range p.trained {
		learns[q] = true
	}
	first := map[string]int64{} // where the bytes of weights begin
	for _, q := range p.model.Params {
		r, lo, hi, err := p.model.Raw(q)
		if err != nil {
			return nil, err
		}
		n, ok := r.(namedReader)
		if !ok {
			return nil, fmt.Errorf("%s lies in no file of the model", q.Name)
		}
		if at, seen := first[n.path]; !seen || lo < at {
			first[n.path] = lo
		}
		if !learns[q] && p.model.Holds(part, p.over(), q) || fresh && adapter == nil && (learns[q] || p.startsFrom(spec, q)) {
			all = append(all, Extent{n.path, lo, hi})
		}
	}
	for _, path := range named.opened {
		if at, seen := first[path]; seen {
			all = append(all, Extent{path, 0, at})
		}
	}
	return all, nil
}

// startsFrom reports whether what a fresh adapter starts from follows from a frozen weight, whoever computes with it: lengths
// of rows in DoRA, tokens that a prompt begins as.
func (p *parts) startsFrom(spec *job.Spec, q *autograd.Param) bool {
	switch spec.Adapter {
	case job.AdapterDora:
		return len(p.adapter.(peft.Merger).Of(q)) > 0
	case job.AdapterPrompt:
		return q.Kind == autograd.Embedding
	}
	return false
}

// namedFiles remembers which file is which.
type namedFiles struct {
	model.Files
	opened []string
}

type namedReader struct {
	io.ReaderAt
	path string
	io.Closer
}

type notClosed struct{}

func (notClosed) Close() error { return nil }

// Open implements model.Files.
func (n *namedFiles) Open(path string) (io.ReaderAt, int64, error) {
	r, size, err := n.Files.Open(path)
	if err != nil {
		return nil, 0, err
	}
	c, ok := r.(io.Closer)
	if !ok {
		c = notClosed{}
	}
	n.opened = append(n.opened, path)
	return namedReader{r, path, c}, size, nil
}
