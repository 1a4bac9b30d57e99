package collective

import (
	"errors"
	"testing"
)

// fewVectors is a Room that is full after some.
type fewVectors struct{ left int }

func (f *fewVectors) Vector(n int) ([]float32, error) {
	if f.left--; f.left < 0 {
		return nil, errors.New("full")
	}
	return make([]float32, n, 2*n), nil
}

// TestLodging: vectors are used again, are no more than the bound, and what is not from there is told apart.
func TestLodging(t *testing.T) {
	l := newLodging(&fewVectors{left: 3}, 2)
	a, okA := l.get(4)
	b, okB := l.get(4)
	if _, ok := l.get(4); ok || !okA || !okB || len(a) != 4 || &a[0] == &b[0] {
		t.Fatalf("%v %v, %v", a, b, ok)
	}
	if l.put(make([]float32, 4)) || !l.put(a[:2]) || l.put(a) {
		t.Error("vectors are mistaken for others")
	}
	if c, ok := l.get(4); !ok || &c[0] != &a[0] || len(c) != 4 {
		t.Error("a vector is not used again")
	}
	full := newLodging(&fewVectors{}, 2)
	if _, ok := full.get(4); ok {
		t.Error("a full room has room")
	}
	var none *lodging
	if _, ok := none.get(1); ok || none.put(a) || newLodging(nil, 1) != nil {
		t.Error("there is a room where there is none")
	}
}
