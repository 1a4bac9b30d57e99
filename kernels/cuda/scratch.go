//go:build cuda

package cuda

// scratch is device memory for one command's intermediate results. Commands run one after the other on one stream, so
// each may use all of it; it grows to what the largest needs and stays.
type scratch struct {
	at   uint64
	size int
}

// scratch gives a command n bytes, with undefined contents, until it has run. A command asks once: pieces are cut by the
// caller, at multiples of unit. An operation inside of another one (nested) has its own.
func (l *launcher) scratch(n int) (uint64, error) {
	s := &l.dev.scratch[l.depth]
	if n <= s.size {
		return s.at, nil
	}
	l.flush() // what is in the list uses the old memory
	n = max(n, 2*s.size, 1<<20)
	at, err := l.dev.takeMemory(n)
	if err != nil {
		return 0, err
	}
	if s.size > 0 {
		l.dev.putMemory(s.at)
	}
	s.at, s.size = at, n
	return at, nil
}

// nested runs an operation that is part of another one.
func (l *launcher) nested(f func() error) error {
	l.depth++
	defer func() { l.depth-- }()
	return f()
}

// depths is how deep operations are nested: a head, its products.
const depths = 2
