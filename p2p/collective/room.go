package collective

import (
	"sync"
	"unsafe"
)

// Room makes vectors for a Group that are not to take memory: of n elements, of undefined values.
type Room interface {
	Vector(n int) ([]float32, error)
}

// lodging is what a Group has from its Room, and uses again. What gets lost on its way back (a frame that was refused, a
// result that nobody recycled) is not asked for again: there is a bound, and what exceeds it is memory, like everything
// where there is no Room. It is safe for concurrent use; a nil one has no Room.
type lodging struct {
	room Room
	most int // vectors that it asks for

	mu    sync.Mutex // guards the rest
	asked int
	out   map[*float32]int    // those that are in use, with their lengths
	spare map[int][][]float32 // by length
}

func newLodging(r Room, most int) *lodging {
	if r == nil {
		return nil
	}
	return &lodging{room: r, most: most, out: map[*float32]int{}, spare: map[int][][]float32{}}
}

// get is room for n elements; false: there is none.
func (l *lodging) get(n int) (v []float32, ok bool) {
	if l == nil || n == 0 {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.spare[n]; len(s) > 0 {
		v, l.spare[n] = s[len(s)-1], s[:len(s)-1]
	} else if l.asked < l.most {
		var err error
		if v, err = l.room.Vector(n); err != nil { // a full disk costs memory, not the round
			return nil, false
		}
		l.asked++
	} else {
		return nil, false
	}
	l.out[unsafe.SliceData(v)] = n
	return v, true
}

// put takes back what get gave; false: it is not from there.
func (l *lodging) put(v []float32) bool {
	if l == nil || cap(v) == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := unsafe.SliceData(v)
	n, ok := l.out[p]
	if ok {
		delete(l.out, p)
		l.spare[n] = append(l.spare[n], v[:n])
	}
	return ok
}

// How many vectors a Group asks for: results of a few attempts; chunks of a thousand million elements.
const (
	mostResults = 8
	mostChunks  = 1 << 12
)
