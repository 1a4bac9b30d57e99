package data

import (
	"encoding/binary"
	"errors"
)

// skimmer walks over a structure in Thrift's compact protocol, which the descriptions in parquet files are written in, and
// checks every length before anybody takes memory for it.
type skimmer struct {
	b        []byte // what is left
	elements int    // of lists, that may still come
	depth    int

	numbers map[[2]int16]int64 // integers and truths of the structure (0, id) and of structures in it (id of these, id)
}

var errThrift = errors.New("a description is damaged")

// Types of the compact protocol that are told apart here.
const (
	thriftTrue, thriftFalse, thriftByte         = 1, 2, 3
	thriftI16, thriftI32, thriftI64, thriftReal = 4, 5, 6, 7
	thriftBinary, thriftList, thriftSet         = 8, 9, 10
	thriftMap, thriftStruct, thriftUUID         = 11, 12, 13
)

// structure walks to the end of a structure that is field outer of the one around it.
func (s *skimmer) structure(outer int16) error {
	if s.depth++; s.depth > 32 {
		return errThrift
	}
	defer func() { s.depth-- }()
	for id := int16(0); ; {
		head, err := s.byte()
		if err != nil || head == 0 {
			return err
		}
		if id += int16(head >> 4); head>>4 == 0 {
			n, err := s.varint()
			if err != nil {
				return err
			}
			id = int16(n>>1) ^ -int16(n&1)
		}
		if err := s.field(outer, id, head&15); err != nil {
			return err
		}
	}
}

func (s *skimmer) field(outer, id int16, kind byte) error {
	var n uint64
	var err error
	switch kind {
	case thriftTrue: // the header was all
		n = 2
	case thriftFalse:
	case thriftI16, thriftI32, thriftI64:
		n, err = s.varint()
	default:
		return s.value(id, kind)
	}
	if s.numbers != nil && s.depth <= 2 {
		s.numbers[[2]int16{outer, id}] = int64(n>>1) ^ -int64(n&1)
	}
	return err
}

// value walks over a value that does not stand in the header of a field.
func (s *skimmer) value(id int16, kind byte) error {
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		return s.skip(1)
	case thriftI16, thriftI32, thriftI64:
		_, err := s.varint()
		return err
	case thriftReal:
		return s.skip(8)
	case thriftUUID:
		return s.skip(16)
	case thriftBinary:
		n, err := s.varint()
		if err != nil {
			return err
		}
		return s.skip(n)
	case thriftList, thriftSet:
		return s.list()
	case thriftMap:
		return s.mapping()
	case thriftStruct:
		return s.structure(id)
	}
	return errThrift
}

func (s *skimmer) list() error {
	head, err := s.byte()
	if err != nil {
		return err
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = s.varint(); err != nil {
			return err
		}
	}
	return s.repeat(n, head&15)
}

func (s *skimmer) mapping() error {
	n, err := s.varint()
	if err != nil || n == 0 {
		return err
	}
	kinds, err := s.byte()
	if err != nil {
		return err
	}
	for range min(n, uint64(len(s.b))+1) {
		if err := errors.Join(s.repeat(1, kinds>>4), s.repeat(1, kinds&15)); err != nil {
			return err
		}
	}
	return nil
}

// repeat walks over n values.
func (s *skimmer) repeat(n uint64, kind byte) error {
	if n > uint64(len(s.b)) || n > uint64(s.elements) {
		return errThrift
	}
	s.elements -= int(n)
	for range n {
		if err := s.value(0, kind); err != nil {
			return err
		}
	}
	return nil
}

func (s *skimmer) byte() (byte, error) {
	if len(s.b) == 0 {
		return 0, errThrift
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c, nil
}

func (s *skimmer) varint() (uint64, error) {
	v, n := binary.Uvarint(s.b)
	if n <= 0 {
		return 0, errThrift
	}
	s.b = s.b[n:]
	return v, nil
}

func (s *skimmer) skip(n uint64) error {
	if n > uint64(len(s.b)) {
		return errThrift
	}
	s.b = s.b[n:]
	return nil
}
