package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"unicode/utf8"
)

// A tokenizer.model is a protocol buffer, sentencepiece_model.proto of google/sentencepiece; the numbers below are its
// field numbers.

// pieceType says what a piece is for.
type pieceType uint64

const (
	pieceNormal  pieceType = 1
	pieceUnknown pieceType = 2
	pieceControl pieceType = 3
	pieceUser    pieceType = 4
	pieceUnused  pieceType = 5
	pieceByte    pieceType = 6
)

type spPiece struct {
	text  string
	score float32
	typ   pieceType
}

type spModel struct {
	pieces         []spPiece
	modelType      uint64 // 1 unigram, 2 BPE
	byteFallback   bool
	unk, bos, eos  int32
	charsMap       []byte
	dummyPrefix    bool
	removeExtra    bool
	escape         bool
	suffixedSpaces bool
}

// fromModel reads tokenizer.model: SentencePiece's protocol buffer, or for Llama 3 a list of tiktoken ranks.
func fromModel(_ fs.FS, data []byte, c *config) (*builder, error) {
	if len(data) > 0 && data[0] != 0x0a { // a protocol buffer begins with the first piece, field 1
		return readRanks(data)
	}
	m, err := parseSP(data)
	if err != nil {
		return nil, err
	}
	if err := m.supported(); err != nil {
		return nil, err
	}
	b := newBuilder()
	if err := m.tokens(b); err != nil {
		return nil, err
	}
	m.text(b)
	b.bos, b.eos = m.bos, m.eos
	if m.bos >= 0 && c.AddBOS == nil {
		b.prefix = []string{m.pieces[m.bos].text} // the models that come in this form all want it
	}
	return b, b.model.mergesFromVocab(m.ranks())
}

func (m *spModel) supported() error {
	switch {
	case m.modelType != 2:
		return fmt.Errorf("SentencePiece model of type %d; this shoal reads BPE (2)", m.modelType)
	case len(m.charsMap) > 0:
		return errors.New("SentencePiece normalization rules are not supported; convert the model to tokenizer.json")
	case m.suffixedSpaces:
		return errors.New("SentencePiece with spaces as suffixes is not supported")
	case len(m.pieces) == 0 || len(m.pieces) > maxVocab:
		return fmt.Errorf("SentencePiece model of %d pieces", len(m.pieces))
	}
	for _, id := range []*int32{&m.unk, &m.bos, &m.eos} {
		if int(*id) >= len(m.pieces) || *id < -1 {
			*id = -1
		}
	}
	return nil
}

func (m *spModel) tokens(b *builder) error {
	b.model.byteFallback, b.model.fuseUnk = m.byteFallback, true
	for i, p := range m.pieces {
		id := int32(i)
		if !utf8.ValidString(p.text) || p.text == "" {
			return fmt.Errorf("piece %d is not text", i)
		}
		if _, twice := b.ids[p.text]; twice {
			return fmt.Errorf("piece %d, %.40q, stands there twice", i, p.text)
		}
		if err := b.set(p.text, id); err != nil {
			return err
		}
		switch p.typ {
		case pieceNormal, pieceByte:
			b.token([]byte(p.text), id)
		case pieceUnknown:
			b.model.unk = id
			b.added = append(b.added, added{ID: id, Content: p.text, Special: true})
		case pieceControl:
			b.added = append(b.added, added{ID: id, Content: p.text, Special: true})
		case pieceUser:
			b.added = append(b.added, added{ID: id, Content: p.text})
		}
	}
	return nil
}

// text says how text is written and read back.
func (m *spModel) text(b *builder) {
	if m.removeExtra {
		b.normalize = append(b.normalize, pure(singleSpaces))
	}
	if m.escape {
		b.normalize = append(b.normalize, replace(" ", spaceMark))
		b.decode.replace = [][2]string{{spaceMark, " "}}
	}
	if m.dummyPrefix {
		mark := " "
		if m.escape {
			mark = spaceMark
		}
		b.normalize = append(b.normalize, prepend(mark))
		b.decode.strip = 1
	}
	b.decode.bytes = m.byteFallback
	b.bySpace = m.escape
}

// ranks orders the pieces by score, the highest first; equal scores have equal ranks, so that the leftmost wins.
func (m *spModel) ranks() func(id int32) (int32, bool) {
	var scores []float32
	for _, p := range m.pieces {
		if p.typ == pieceNormal {
			scores = append(scores, p.score)
		}
	}
	slices.Sort(scores)
	scores = slices.Compact(scores)
	return func(id int32) (int32, bool) {
		p := m.pieces[id]
		i, _ := slices.BinarySearch(scores, p.score)
		return int32(len(scores) - i), p.typ == pieceNormal
	}
}

func parseSP(data []byte) (*spModel, error) {
	m := &spModel{modelType: 1, unk: 0, bos: 1, eos: 2, dummyPrefix: true, removeExtra: true, escape: true}
	err := fields(data, func(num int, v uint64, b []byte) error {
		switch num {
		case 1:
			p, err := parsePiece(b)
			if len(m.pieces) == maxVocab {
				return fmt.Errorf("more than %d pieces", maxVocab)
			}
			m.pieces = append(m.pieces, p)
			return err
		case 2:
			return m.trainer(b)
		case 3:
			return m.normalizer(b)
		}
		return nil
	})
	return m, err
}

func parsePiece(data []byte) (spPiece, error) {
	p := spPiece{typ: pieceNormal}
	err := fields(data, func(num int, v uint64, b []byte) error {
		switch num {
		case 1:
			p.text = string(b)
		case 2:
			p.score = math.Float32frombits(uint32(v))
			if p.score != p.score {
				return errors.New("a piece's score is not a number")
			}
		case 3:
			p.typ = pieceType(v)
		}
		return nil
	})
	return p, err
}

func (m *spModel) trainer(data []byte) error {
	return fields(data, func(num int, v uint64, _ []byte) error {
		switch num {
		case 3:
			m.modelType = v
		case 24:
			m.suffixedSpaces = v != 0
		case 35:
			m.byteFallback = v != 0
		case 40:
			m.unk = int32(v)
		case 41:
			m.bos = int32(v)
		case 42:
			m.eos = int32(v)
		}
		return nil
	})
}

func (m *spModel) normalizer(data []byte) error {
	return fields(data, func(num int, v uint64, b []byte) error {
		switch num {
		case 2:
			m.charsMap = b
		case 3:
			m.dummyPrefix = v != 0
		case 4:
			m.removeExtra = v != 0
		case 5:
			m.escape = v != 0
		}
		return nil
	})
}

var errProto = errors.New("not a protocol buffer")

// fields calls do with each field of a protocol buffer message: numbers come as v, byte strings as b, which is part of
// data.
func fields(data []byte, do func(num int, v uint64, b []byte) error) error {
	for len(data) > 0 {
		tag, n := binary.Uvarint(data)
		if n <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
			return errProto
		}
		data = data[n:]
		v, b, size, err := value(tag&7, data)
		if err != nil {
			return err
		}
		data = data[size:]
		if err := do(int(tag>>3), v, b); err != nil {
			return err
		}
	}
	return nil
}

// value reads a value of a wire type and returns how many bytes it took.
func value(wire uint64, data []byte) (v uint64, b []byte, size int, err error) {
	switch wire {
	case 0:
		if v, size = binary.Uvarint(data); size > 0 {
			return v, nil, size, nil
		}
	case 1:
		if len(data) >= 8 {
			return binary.LittleEndian.Uint64(data), nil, 8, nil
		}
	case 2:
		l, n := binary.Uvarint(data)
		if n > 0 && l <= uint64(len(data)-n) {
			return 0, data[n : n+int(l)], n + int(l), nil
		}
	case 5:
		if len(data) >= 4 {
			return uint64(binary.LittleEndian.Uint32(data)), nil, 4, nil
		}
	}
	return 0, nil, 0, errProto
}
