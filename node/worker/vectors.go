package worker

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// vectorService is the number of optimizer state among the services of xfer.
const vectorService = 4

const vectorVersion = 1

// vectorMeta says what a transfer of optimizer state is: one vector of one chunk, as little-endian float32. Of the
// vectors named by All as many transfers come.
type vectorMeta struct {
	Version int     `cbor:"1,keyasint"`
	Job     cid.Cid `cbor:"2,keyasint"`
	Chunk   int     `cbor:"3,keyasint"`
	Slot    uint8   `cbor:"4,keyasint"`           // slotM, slotV or slotW
	All     uint8   `cbor:"5,keyasint"`           // set of slots: 1 << slot
	Step    uint64  `cbor:"6,keyasint"`           // trainer.Moments
	Count   uint64  `cbor:"7,keyasint"`           // trainer.Moments
	Ask     uint64  `cbor:"8,keyasint,omitempty"` // the request it answers; 0: a mirror
	Plan    cid.Cid `cbor:"9,keyasint,omitzero"`  // the state is that of Step if this plan is committed; undefined: it is
}

const (
	slotM = iota
	slotV
	slotW
	slots
)

// Codes of refused transfers.
const (
	vectorMalformed xfer.Code = 1
	vectorUnwanted  xfer.Code = 2 // no such job here, nobody asked, or this node does not follow the sender in the chunk
	vectorBusy      xfer.Code = 3 // as much as may be is on its way here
)

// Vectors takes the optimizer state that peers send and gives it to the job it belongs to. There is one per node.
type Vectors struct {
	x *xfer.Xfer

	mu   sync.Mutex // guards jobs
	jobs map[cid.Cid]*moments
}

// NewVectors makes optimizer state a service of x.
func NewVectors(x *xfer.Xfer) *Vectors {
	v := &Vectors{x: x, jobs: map[cid.Cid]*moments{}}
	x.Handle(vectorService, v)
	return v
}

func (v *Vectors) join(job cid.Cid, m *moments) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.jobs[job] = m
}

func (v *Vectors) leave(job cid.Cid) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.jobs, job)
}

// Offer implements xfer.Service.
func (v *Vectors) Offer(from record.PeerID, meta []byte, size int) (xfer.Delivery, xfer.Code) {
	m, err := decodeVector(meta, size)
	if err != nil {
		return nil, vectorMalformed
	}
	v.mu.Lock()
	job := v.jobs[m.Job]
	v.mu.Unlock()
	if job == nil {
		return nil, vectorUnwanted
	}
	return job.expect(from, m, size/4)
}

func decodeVector(b []byte, size int) (m vectorMeta, err error) {
	if len(b) > xfer.MaxMeta {
		return m, fmt.Errorf("%w: %d bytes of meta", record.ErrBad, len(b))
	}
	if err := record.Decode(b, &m); err != nil {
		return m, err
	}
	if m.Version != vectorVersion || m.Slot >= slots || m.All >= 1<<slots || m.All&(1<<m.Slot) == 0 || m.Chunk < 0 || size <= 0 || size%4 != 0 {
		return m, fmt.Errorf("%w: vector %+v of %d bytes", record.ErrBad, m, size)
	}
	return m, nil
}

// vectorsOf lists the vectors of a chunk's state by slot; nil: not used.
func vectorsOf(m *trainer.Moments) [slots]*[]float32 {
	return [slots]*[]float32{slotM: &m.M, slotV: &m.V, slotW: &m.W}
}

// setOf is the set of slots that m has vectors for.
func setOf(m *trainer.Moments) (set uint8) {
	for slot, v := range vectorsOf(m) {
		if *v != nil {
			set |= 1 << slot
		}
	}
	return set
}

// send gives a chunk's state to a peer, as what the job, the request or the plan in as say, and waits for the receipts; done is closed when nobody waits for them any more.
// m is read until every transfer has ended.
func (v *Vectors) send(done <-chan struct{}, to record.PeerID, as vectorMeta, m *trainer.Moments) error {
	as.Version, as.Chunk, as.Step, as.Count, as.All = vectorVersion, m.Chunk, m.Step, m.Count, setOf(m)
	results := make(chan error, slots)
	n := 0
	for slot, vec := range vectorsOf(m) {
		if *vec == nil {
			continue
		}
		as.Slot = uint8(slot)
		meta, err := record.Encode(as)
		if err != nil {
			return err
		}
		n++
		v.x.Send(to, &xfer.Transfer{Service: vectorService, Meta: meta, Size: 4 * len(*vec),
			Read: func(dst []byte, off int) bool { return readFloat32(dst, *vec, off) },
			Done: func(err error) { results <- err }})
	}
	for range n {
		select {
		case err := <-results:
			if err != nil {
				return err
			}
		case <-done:
			return xfer.ErrCanceled
		}
	}
	return nil
}

// readFloat32 copies the part of v's little-endian bytes that begins at off; parts are cut between elements.
func readFloat32(dst []byte, v []float32, off int) bool {
	copy(dst, bytesOf(v)[off:])
	if bigEndian {
		swapWords(dst)
	}
	return true
}

// bytesOf is v's memory as bytes.
func bytesOf(v []float32) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

var bigEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}()

func swapWords(b []byte) {
	for i := 0; i+4 <= len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
}

// arriving is one vector on its way in.
type arriving struct {
	to   *moments
	from record.PeerID
	meta vectorMeta
	v    []float32
}

func (a *arriving) Buffer() []byte { return bytesOf(a.v) }

func (a *arriving) Done(receipt func(xfer.Code)) {
	if bigEndian {
		swapWords(bytesOf(a.v))
	}
	a.to.arrived(a)
	receipt(xfer.Taken)
}

func (a *arriving) Drop() { a.to.dropped(a) }
