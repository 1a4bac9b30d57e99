package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// file is one file of a model as the hub lists it.
type file struct {
	name string
	size int64
	hash string // sha256 (64 digits) or git's blob hash (40)
}

// listing is a model at a commit.
type listing struct {
	commit string
	files  map[string]file
}

const (
	maxListing = 32 << 20 // bytes
	maxIndex   = 64 << 20
)

var hashPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// readListing reads the answer to GET /api/models/{repo}/revision/{revision}?blobs=true.
func readListing(data []byte) (*listing, error) {
	var a struct {
		SHA      string
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   int64
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string
				Size   int64
			}
		}
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("the hub's answer is not a list of files: %w", err)
	}
	if !commitPattern.MatchString(a.SHA) {
		return nil, errors.New("the hub's answer names no commit")
	}
	l := &listing{commit: a.SHA, files: map[string]file{}}
	for _, s := range a.Siblings {
		f := file{s.Name, s.Size, s.BlobID}
		if s.LFS != nil {
			f.hash, f.size = s.LFS.SHA256, max(s.LFS.Size, s.Size)
		}
		l.files[f.name] = f
	}
	return l, nil
}

// small lists the files beside weights that are of use, in the order in which they are fetched.
func small() []string {
	return []string{
		"config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json", "special_tokens_map.json",
		"chat_template.jinja", "tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model",
		"model.safetensors.index.json",
	}
}

const indexFile = "model.safetensors.index.json"

// wanted lists the files to fetch; index is the content of indexFile, or nil.
func (l *listing) wanted(index []byte) ([]file, error) {
	var out []file
	for _, name := range small() {
		if f, ok := l.files[name]; ok {
			out = append(out, f)
		}
	}
	weights, err := l.weights(index)
	if err != nil {
		return nil, err
	}
	for _, name := range weights {
		f, ok := l.files[name]
		if !ok {
			return nil, fmt.Errorf("%s lists %.80q, which the model does not have", indexFile, name)
		}
		out = append(out, f)
	}
	return out, checkable(out)
}

// checkable says that each file's hash is known.
func checkable(files []file) error {
	for _, f := range files {
		if !hashPattern.MatchString(f.hash) || f.size < 0 {
			return fmt.Errorf("the hub lists no hash for %s, so it cannot be checked; try another HF_ENDPOINT", f.name)
		}
	}
	return nil
}

// weights lists the files with weights: the shards of the index, or the one file, or an adapter's.
func (l *listing) weights(index []byte) ([]string, error) {
	if index != nil {
		return shards(index)
	}
	for _, name := range []string{"model.safetensors", "adapter_model.safetensors"} {
		if _, ok := l.files[name]; ok {
			return []string{name}, nil
		}
	}
	for name := range l.files {
		switch path.Ext(name) {
		case ".bin", ".pt", ".pth", ".gguf":
			return nil, fmt.Errorf("no safetensors weights, only %s and the like; convert the model to safetensors", path.Ext(name))
		}
	}
	return nil, errors.New("no weights: neither model.safetensors nor adapter_model.safetensors is there")
}

func shards(index []byte) ([]string, error) {
	var x struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(index, &x); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	seen := map[string]bool{}
	for _, name := range x.WeightMap {
		if !strings.HasSuffix(name, ".safetensors") || strings.ContainsAny(name, `/\:`) || strings.HasPrefix(name, ".") {
			return nil, fmt.Errorf("%s lists %.80q, which is not a safetensors file beside it", indexFile, name)
		}
		seen[name] = true
	}
	if len(seen) == 0 || len(seen) > 10000 {
		return nil, fmt.Errorf("%s lists %d files", indexFile, len(seen))
	}
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}
