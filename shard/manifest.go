package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
)

// Kinds of manifest.
const (
	KindModel      = "model"      // files of a Hugging Face directory
	KindData       = "data"       // materialised positions; Files holds "positions" and "index"
	KindCheckpoint = "checkpoint" // chunks of weights and optimizer state at one commit
	KindAdapter    = "adapter"    // files of a PEFT directory
)

// ManifestVersion is the format's version. Readers refuse others.
const ManifestVersion = 1

// Limits of a manifest besides MaxBlock, which its canonical bytes must fit.
const (
	MaxFiles = 1 << 14
	MaxPath  = 1 << 10 // bytes
	MaxName  = 1 << 8  // bytes
	MaxMeta  = 1 << 8  // entries
)

// Manifest lists blocks. Its canonical bytes are deterministic CBOR; their CID (dag-cbor) is its identity.
type Manifest struct {
	Version int               `cbor:"1,keyasint"`           // ManifestVersion
	Kind    string            `cbor:"2,keyasint"`           // one of the Kind constants
	Name    string            `cbor:"3,keyasint,omitempty"` // what a person called it; not unique
	Files   []File            `cbor:"4,keyasint"`           // sorted by Path
	Meta    map[string]string `cbor:"5,keyasint,omitempty"` // small facts of the kind, documented by its package
}

// File is a named byte sequence cut into blocks of MaxBlock (the last may be shorter).
type File struct {
	Path   string    `cbor:"1,keyasint"` // relative, slash-separated, clean
	Size   uint64    `cbor:"2,keyasint"` // bytes
	Blocks []cid.Cid `cbor:"3,keyasint"`
}

// File finds a file by its path.
func (m *Manifest) File(path string) (File, bool) {
	for _, f := range m.Files {
		if f.Path == path {
			return f, true
		}
	}
	return File{}, false
}

// Size is the sum of the files' sizes, bytes.
func (m *Manifest) Size() uint64 {
	var n uint64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Blocks lists every block once, in the order of first use.
func (m *Manifest) Blocks() []cid.Cid {
	var list []cid.Cid
	seen := map[cid.Cid]bool{}
	for _, f := range m.Files {
		for _, c := range f.Blocks {
			if !seen[c] {
				seen[c] = true
				list = append(list, c)
			}
		}
	}
	return list
}

// Validate checks everything that Encode and DecodeManifest promise.
func (m *Manifest) Validate() error {
	if m.Version != ManifestVersion {
		return fmt.Errorf("manifest version %d, this node knows %d", m.Version, ManifestVersion)
	}
	switch m.Kind {
	case KindModel, KindData, KindCheckpoint, KindAdapter:
	default:
		return fmt.Errorf("manifest of unknown kind %.80q", m.Kind)
	}
	if len(m.Name) > MaxName || !printable(m.Name) {
		return fmt.Errorf("manifest name %.80q is longer than %d bytes or not printable", m.Name, MaxName)
	}
	if len(m.Meta) > MaxMeta || len(m.Files) > MaxFiles {
		return fmt.Errorf("manifest with %d files and %d facts, limits %d and %d", len(m.Files), len(m.Meta), MaxFiles, MaxMeta)
	}
	for i, f := range m.Files {
		if i > 0 && m.Files[i-1].Path >= f.Path {
			return fmt.Errorf("manifest files %.80q and %.80q are out of order or equal", m.Files[i-1].Path, f.Path)
		}
		if err := f.validate(); err != nil {
			return fmt.Errorf("manifest file %.80q: %w", f.Path, err)
		}
	}
	return m.noFileIsAFolder()
}

// noFileIsAFolder refuses "a" beside "a/b", which no directory can hold.
func (m *Manifest) noFileIsAFolder() error {
	files := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		files[f.Path] = true
	}
	for _, f := range m.Files {
		for i, c := range f.Path {
			if c == '/' && files[f.Path[:i]] {
				return fmt.Errorf("manifest has %.80q as a file and as a folder", f.Path[:i])
			}
		}
	}
	return nil
}

func (f File) validate() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	if want := blockCount(f.Size); want != uint64(len(f.Blocks)) {
		return fmt.Errorf("%d bytes are %d blocks, not %d", f.Size, want, len(f.Blocks))
	}
	for _, c := range f.Blocks {
		if err := CheckCID(c); err != nil {
			return err
		}
		if c.Prefix().Codec != cid.Raw {
			return fmt.Errorf("block %s is not raw bytes", c)
		}
	}
	return nil
}

// blockCount is how many blocks size bytes take.
func blockCount(size uint64) uint64 {
	n := size / MaxBlock
	if size%MaxBlock != 0 {
		n++
	}
	return n
}

// CheckPath accepts relative, slash-separated, clean paths of printable text that mean the same on every system.
func CheckPath(path string) error {
	switch {
	case len(path) > MaxPath:
		return fmt.Errorf("path of %d bytes, limit %d", len(path), MaxPath)
	case !fs.ValidPath(path) || path == ".":
		return errors.New("path is not relative and clean")
	case strings.ContainsAny(path, `\:`) || !printable(path):
		return errors.New("path holds a backslash, a colon or something not printable")
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// Encode returns the canonical bytes of a valid manifest.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	data, err := encoding.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxBlock {
		return nil, fmt.Errorf("manifest %q: %w: %d bytes; its files have too many blocks (about 27,000 fit)", m.Name, ErrTooLarge, len(data))
	}
	return data, nil
}

// DecodeManifest reads canonical bytes and validates them. Bytes that Encode would not have made are refused, so that
// equal manifests have equal identifiers.
func DecodeManifest(data []byte) (*Manifest, error) {
	if err := checkSize(data); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var m Manifest
	if err := decoding.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	again, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("manifest: bytes are not in canonical form")
	}
	return &m, nil
}

// SaveManifest stores m and returns its identity.
func SaveManifest(ctx context.Context, p Putter, m *Manifest) (cid.Cid, error) {
	data, err := m.Encode()
	if err != nil {
		return cid.Undef, err
	}
	return p.Add(ctx, cid.DagCBOR, data)
}

// LoadManifest reads the manifest that c names.
func LoadManifest(ctx context.Context, g Getter, c cid.Cid) (*Manifest, error) {
	if err := CheckCID(c); err != nil {
		return nil, err
	}
	if c.Prefix().Codec != cid.DagCBOR {
		return nil, fmt.Errorf("%s names a raw block, not a manifest", c)
	}
	data, err := g.Get(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", c, err)
	}
	return DecodeManifest(data)
}

var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	opts := cbor.CoreDetEncOptions()
	opts.NilContainers = cbor.NilContainerAsEmpty // one form for "no files", not two
	enc, err := opts.EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  1 << 16,
		MaxMapPairs:       1 << 12,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}
