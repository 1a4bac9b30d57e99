package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// A checkpoint is a manifest of kind shard.KindCheckpoint with four files: weights, m and v are the whole index space
// as little-endian float32, m and v empty where the optimizer does not use them; history is one JSON line per committed step without its time. Nothing in it depends on the
// node that wrote it, so members that hold the same state name the same manifest, and a receipt is just its CID.
const (
	fileWeights = "weights"
	fileM       = "m"
	fileV       = "v"
	fileHistory = "history"
	metaJob     = "job"
	metaStep    = "step"
	metaCommit  = "commit"
	metaPart    = "part"
)

// maxHistory bounds the history of a checkpoint that a peer sent, bytes.
const maxHistory = 256 << 20

// snapshot is the state of one commit.
type snapshot struct {
	State   trainer.State
	Commit  cid.Cid // undefined at step 0
	History []trainer.StepReport
	Files   []shard.File // where owners step: the optimizer's state by chunk, see parts.go
	Parts   cid.Cid      // of a snapshot that was read: the manifest, if it has such files
}

// last is the report of the step that made the state.
func (s snapshot) last() trainer.StepReport {
	if n := len(s.History); n > 0 {
		return s.History[n-1]
	}
	return trainer.StepReport{Step: s.State.Step}
}

// saveSnapshot writes s as blocks and returns its manifest.
func saveSnapshot(ctx context.Context, p shard.Putter, job cid.Cid, s snapshot) (cid.Cid, error) {
	m := &shard.Manifest{Version: 1, Kind: shard.KindCheckpoint, Meta: map[string]string{
		metaJob: job.String(), metaStep: strconv.FormatUint(s.State.Step, 10),
	}}
	if s.Commit.Defined() {
		m.Meta[metaCommit] = s.Commit.String()
	}
	for _, part := range []struct { // sorted by name, as manifests are
		name string
		r    io.Reader
	}{
		{fileHistory, bytes.NewReader(encodeHistory(s.History))},
		{fileM, newFloatReader(s.State.M)},
		{fileV, newFloatReader(s.State.V)},
		{fileWeights, newFloatReader(s.State.W)},
	} {
		f, err := shard.WriteFile(ctx, shard.Deferred(p), part.name, part.r) // durable with the manifest
		if err != nil {
			return cid.Undef, fmt.Errorf("write checkpoint of step %d: %w", s.State.Step, err)
		}
		m.Files = append(m.Files, f)
		if part.name == fileM {
			m.Files = append(m.Files, s.Files...)
		}
	}
	return shard.SaveManifest(ctx, p, m)
}

// loadSnapshot reads a checkpoint of job whose index space has n elements.
func loadSnapshot(ctx context.Context, g shard.Getter, job, manifest cid.Cid, n int) (s snapshot, err error) {
	m, err := shard.LoadManifest(ctx, g, manifest)
	if err != nil {
		return s, err
	}
	if s.State.Step, s.Commit, err = checkpointOf(m, job); err != nil {
		return s, err
	}
	files := shard.OpenFiles(ctx, g, m)
	for _, part := range []struct {
		name string
		dst  *[]float32
	}{{fileWeights, &s.State.W}, {fileM, &s.State.M}, {fileV, &s.State.V}} {
		if *part.dst, err = readFloats(files, part.name, n, part.name != fileWeights); err != nil {
			return s, fmt.Errorf("checkpoint %s: %w", manifest, err)
		}
	}
	if s.History, err = readHistory(files, s.State.Step); err != nil {
		return s, err
	}
	s.State.Scale = trainer.ScaleAfter(s.History)
	if slices.ContainsFunc(m.Files, func(f shard.File) bool { return strings.HasPrefix(f.Path, momentsPrefix) }) {
		s.Parts = manifest
	}
	return s, nil
}

// loadHistory reads the steps that led to a checkpoint.
func loadHistory(ctx context.Context, g shard.Getter, job, manifest cid.Cid) ([]trainer.StepReport, error) {
	m, err := shard.LoadManifest(ctx, g, manifest)
	if err != nil {
		return nil, err
	}
	step, _, err := checkpointOf(m, job)
	if err != nil {
		return nil, err
	}
	return readHistory(shard.OpenFiles(ctx, g, m), step)
}

// checkpointOf reads what a manifest says of itself.
func checkpointOf(m *shard.Manifest, job cid.Cid) (step uint64, commit cid.Cid, err error) {
	if m.Kind != shard.KindCheckpoint || m.Meta[metaJob] != job.String() {
		return 0, cid.Undef, fmt.Errorf("manifest is of kind %q and job %q, want a checkpoint of %s", m.Kind, m.Meta[metaJob], job)
	}
	if step, err = strconv.ParseUint(m.Meta[metaStep], 10, 63); err != nil {
		return 0, cid.Undef, fmt.Errorf("checkpoint: step: %w", err)
	}
	if text, ok := m.Meta[metaCommit]; ok {
		if commit, err = cid.Decode(text); err != nil {
			return 0, cid.Undef, fmt.Errorf("checkpoint: commit: %w", err)
		}
	}
	return step, commit, nil
}

// readFloats reads a vector of n elements; one that may be absent is nil where its file is empty.
func readFloats(files *shard.Files, name string, n int, optional bool) ([]float32, error) {
	r, size, err := files.Open(name)
	if err != nil || size == 0 && optional {
		return nil, err
	}
	if size != int64(n)*4 {
		return nil, fmt.Errorf("%s has %d bytes, want %d for %d elements", name, size, int64(n)*4, n)
	}
	v := make([]float32, n)
	buf := make([]byte, min(int(size), shard.MaxBlock))
	for at := 0; at < n; {
		b := buf[:min(len(buf), (n-at)*4)]
		if _, err := r.ReadAt(b, int64(at)*4); err != nil && err != io.EOF {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		decodeFloats(v[at:], b)
		at += len(b) / 4
	}
	return v, nil
}

// decodeFloats fills as much of v as b has bytes for.
func decodeFloats(v []float32, b []byte) {
	for i := range len(b) / 4 {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
}

func encodeHistory(h []trainer.StepReport) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, r := range h {
		r.Time = 0
		if err := e.Encode(r); err != nil {
			panic("worker: history: " + err.Error()) // numbers of a committed step are finite
		}
	}
	return b.Bytes()
}

func readHistory(files *shard.Files, step uint64) ([]trainer.StepReport, error) {
	r, size, err := files.Open(fileHistory)
	if err != nil {
		return nil, err
	}
	if size > maxHistory {
		return nil, fmt.Errorf("history has %d bytes, limit %d", size, maxHistory)
	}
	d := json.NewDecoder(io.NewSectionReader(r, 0, size))
	var h []trainer.StepReport
	for {
		var s trainer.StepReport
		if err := d.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
		if s.Step != uint64(len(h))+1 {
			return nil, fmt.Errorf("history: line %d is of step %d", len(h)+1, s.Step)
		}
		h = append(h, s)
	}
	if uint64(len(h)) != step {
		return nil, fmt.Errorf("history has %d steps, the checkpoint %d", len(h), step)
	}
	return h, nil
}

// floatReader reads a vector as little-endian bytes.
type floatReader struct {
	v   []float32
	odd []byte // bytes of an element that did not fit the last read
}

func newFloatReader(v []float32) *floatReader { return &floatReader{v: v} }

func (f *floatReader) Read(p []byte) (n int, err error) {
	n = copy(p, f.odd)
	f.odd = f.odd[n:]
	for ; len(p)-n >= 4 && len(f.v) > 0; n += 4 {
		binary.LittleEndian.PutUint32(p[n:], math.Float32bits(f.v[0]))
		f.v = f.v[1:]
	}
	if n < len(p) && len(f.v) > 0 {
		f.odd = binary.LittleEndian.AppendUint32(nil, math.Float32bits(f.v[0]))
		f.v = f.v[1:]
		k := copy(p[n:], f.odd)
		n, f.odd = n+k, f.odd[k:]
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
