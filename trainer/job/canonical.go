package job

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Canonical returns the bytes that are signed and content-addressed: the completed spec as deterministic CBOR
// (RFC 8949, section 4.2.1), keys as in YAML. Equal specs have equal bytes, also when one left its defaults out.
func (s *Spec) Canonical() ([]byte, error) {
	c := *s
	if err := c.Validate(); err != nil {
		return nil, err
	}
	enc, err := encMode()
	if err != nil {
		return nil, err
	}
	return enc.Marshal(c)
}

// FromCanonical reads what Canonical wrote, from a peer or a store: it refuses anything that is not exactly the
// canonical form of a valid spec.
func FromCanonical(data []byte) (Spec, error) {
	if len(data) > MaxBytes {
		return Spec{}, fmt.Errorf("job spec of %d bytes; at most %d", len(data), MaxBytes)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   maxDepth,
		MaxArrayElements:  1024,
		MaxMapPairs:       256,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	if err := dec.Unmarshal(data, &s); err != nil {
		return Spec{}, fmt.Errorf("decode job spec: %w", err)
	}
	again, err := s.Canonical()
	if err != nil {
		return Spec{}, fmt.Errorf("decode job spec: %w", err)
	}
	if !bytes.Equal(again, data) {
		return Spec{}, errors.New("decode job spec: not in canonical form")
	}
	return s, nil
}

func encMode() (cbor.EncMode, error) {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o.EncMode()
}
