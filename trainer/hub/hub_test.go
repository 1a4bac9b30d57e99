package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// fake is a server that behaves like the hub: it lists files with hashes, serves small ones itself and sends large ones'
// readers on to another host.
type fake struct {
	t     *testing.T
	hub   *httptest.Server
	cdn   *httptest.Server
	files map[string][]byte
	token string // asked for; empty: public

	mu       sync.Mutex // guards what follows
	requests []string
	drop     int               // answers that end half-way
	hang     int               // answers that fall silent half-way
	busy     int               // answers that are 503
	noRanges bool              // answers whole files only
	status   int               // of all answers; 0: as it should be
	bytes    map[string][]byte // served in place of the listed ones
}

func newFake(t *testing.T, files map[string]string) *fake {
	f := &fake{t: t, files: map[string][]byte{}, bytes: map[string][]byte{}}
	for name, content := range files {
		f.files[name] = []byte(content)
	}
	f.hub = httptest.NewServer(http.HandlerFunc(f.serveHub))
	f.cdn = httptest.NewServer(http.HandlerFunc(f.serveCDN))
	t.Cleanup(f.hub.Close)
	t.Cleanup(f.cdn.Close)
	return f
}

func (f *fake) client() *Client {
	return &Client{Dir: filepath.Join(f.t.TempDir(), "cache"), Endpoint: f.hub.URL, Wait: time.Nanosecond}
}

func isLarge(name string) bool { return strings.HasSuffix(name, ".safetensors") }

func (f *fake) listing() any {
	type obj = map[string]any
	siblings := []obj{}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		data := f.files[name]
		git := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...))
		s := obj{"rfilename": name, "size": len(data), "blobId": hex.EncodeToString(git[:])}
		if isLarge(name) {
			sum := sha256.Sum256(data)
			s["lfs"] = obj{"sha256": hex.EncodeToString(sum[:]), "size": len(data), "pointerSize": 130}
		}
		siblings = append(siblings, s)
	}
	return obj{"id": "o/n", "sha": commit, "siblings": siblings}
}

func (f *fake) serveHub(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, "hub "+r.URL.Path+" "+r.Header.Get("Range"))
	switch {
	case f.busy > 0:
		f.busy--
		w.WriteHeader(http.StatusServiceUnavailable)
	case f.status != 0:
		w.WriteHeader(f.status)
	case f.token != "" && r.Header.Get("Authorization") != "Bearer "+f.token:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/api/models/o/n/revision/main", r.URL.Path == "/api/datasets/o/n/revision/main":
		if r.URL.Query().Get("blobs") != "true" {
			f.t.Error("the listing was asked for without hashes")
		}
		_ = json.NewEncoder(w).Encode(f.listing()) // the client sees a broken answer
	default:
		name, ok := strings.CutPrefix(strings.TrimPrefix(r.URL.Path, "/datasets"), "/o/n/resolve/"+commit+"/")
		if _, there := f.files[name]; !ok || !there {
			w.WriteHeader(http.StatusNotFound)
		} else if isLarge(name) {
			http.Redirect(w, r, f.cdn.URL+"/"+name+"?signature=x", http.StatusFound)
		} else {
			f.content(w, r, name)
		}
	}
}

func (f *fake) serveCDN(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/")
	f.requests = append(f.requests, "cdn "+name+" "+r.Header.Get("Range"))
	if r.Header.Get("Authorization") != "" {
		f.t.Error("the token was given to another host")
	}
	f.content(w, r, name)
}

func (f *fake) content(w http.ResponseWriter, r *http.Request, name string) {
	data := f.files[name]
	if b, ok := f.bytes[name]; ok {
		data = b
	}
	code := http.StatusOK
	var from int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && !f.noRanges {
		if from >= len(data) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		data, code = data[from:], http.StatusPartialContent
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(code)
	if f.drop > 0 && isLarge(name) {
		f.drop--
		data = data[:len(data)/2] // the server closes the connection when less comes than was announced
	}
	if f.hang > 0 && isLarge(name) {
		f.hang--
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		f.mu.Unlock()
		<-r.Context().Done() // until the client goes
		f.mu.Lock()
		return
	}
	_, _ = w.Write(data)
}

func (f *fake) asked(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.Contains(r, what) {
			n++
		}
	}
	return n
}

func single() map[string]string {
	return map[string]string{
		"config.json": `{"model_type":"llama"}`, "tokenizer.json": "{}", "README.md": "no", "model.safetensors": strings.Repeat("weights ", 100000),
		"pytorch_model.bin": "no", "onnx/model.onnx": "no", ".gitattributes": "no",
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		if e.Name() == doneMark {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

func pick(files map[string]string, names ...string) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		out[n] = files[n]
	}
	return out
}

func ref(t *testing.T, s string) Ref {
	t.Helper()
	r, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDownload(t *testing.T) {
	files := single()
	f := newFake(t, files)
	c := f.client()
	var last int64
	calls := 0
	dir, err := c.Download(t.Context(), ref(t, "hf:o/n"), func(_ string, done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
		calls++
	})
	if err != nil {
		t.Fatal(err)
	}
	want := pick(files, "config.json", "tokenizer.json", "model.safetensors")
	if d := cmp.Diff(want, contents(t, dir)); d != "" {
		t.Error(d)
	}
	if calls == 0 || last != int64(len(want["config.json"])+len(want["tokenizer.json"])+len(want["model.safetensors"])) {
		t.Errorf("progress ended at %d", last)
	}
	if dir != filepath.Join(c.Dir, "models--o--n", "snapshots", commit) {
		t.Errorf("snapshot in %s", dir)
	}
	if data, _ := os.ReadFile(filepath.Join(c.Dir, "models--o--n", "refs", "main")); string(data) != commit {
		t.Errorf("refs/main is %q", data)
	}
	n := len(f.requests)
	if again, err := c.Download(t.Context(), ref(t, "o/n"), nil); err != nil || again != dir || len(f.requests) != n+1 {
		t.Errorf("again: %s, %v, %d requests", again, err, len(f.requests)-n)
	}
	if again, err := c.Download(t.Context(), ref(t, "o/n@"+commit), nil); err != nil || again != dir || len(f.requests) != n+1 {
		t.Errorf("by commit: %s, %v, %d requests", again, err, len(f.requests)-n)
	}
	f.hub.Close()
	if again, err := c.Download(t.Context(), ref(t, "o/n"), nil); err != nil || again != dir {
		t.Errorf("without the hub: %s, %v", again, err)
	}
}

func TestShards(t *testing.T) {
	files := map[string]string{
		"config.json": "{}", indexFile: `{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}`,
		"model-1.safetensors": "one", "model-2.safetensors": "two", "other.safetensors": "no",
	}
	dir, err := newFake(t, files).client().Download(t.Context(), ref(t, "o/n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(pick(files, "config.json", indexFile, "model-1.safetensors", "model-2.safetensors"), contents(t, dir)); d != "" {
		t.Error(d)
	}
}

func TestResume(t *testing.T) {
	for name, noRanges := range map[string]bool{"ranges": false, "whole files only": true} {
		t.Run(name, func(t *testing.T) {
			files := single()
			f := newFake(t, files)
			f.drop, f.noRanges = 2, noRanges
			dir, err := f.client().Download(t.Context(), ref(t, "o/n"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(t, dir)["model.safetensors"]; got != files["model.safetensors"] {
				t.Errorf("%d bytes", len(got))
			}
			if n := f.asked("cdn model.safetensors"); n != 3 {
				t.Errorf("%d requests", n)
			}
			if n := f.asked("cdn model.safetensors bytes="); n != 2 {
				t.Errorf("%d requests for the rest", n)
			}
		})
	}
}

// TestResumeLater goes on with what an earlier process left, good or bad.
func TestResumeLater(t *testing.T) {
	weights := single()["model.safetensors"]
	for name, left := range map[string]string{
		"half": weights[:400000], "all": weights, "rubbish": strings.Repeat("x", 400000), "too much": weights + "x",
		"rubbish of the right size": strings.Repeat("x", len(weights)),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, single())
			c := f.client()
			sum := sha256.Sum256([]byte(weights))
			part := c.repo("models", Ref{Repo: "o/n"}).blob(hex.EncodeToString(sum[:])) + ".incomplete"
			if err := writeFile(part, left); err != nil {
				t.Fatal(err)
			}
			dir, err := c.Download(t.Context(), ref(t, "o/n"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(t, dir)["model.safetensors"]; got != weights {
				t.Errorf("%d bytes", len(got))
			}
			if n := f.asked("cdn"); name == "all" && n != 0 {
				t.Errorf("%d requests for a file that was there", n)
			}
		})
	}
}

func TestSilence(t *testing.T) {
	f := newFake(t, single())
	f.hang = 2
	c := f.client()
	c.Silence = 50 * time.Millisecond
	dir, err := c.Download(t.Context(), ref(t, "o/n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, dir)["model.safetensors"]; got != single()["model.safetensors"] {
		t.Errorf("%d bytes", len(got))
	}
}

func TestPassingTrouble(t *testing.T) {
	f := newFake(t, single())
	f.busy = 3
	if _, err := f.client().Download(t.Context(), ref(t, "o/n"), nil); err != nil {
		t.Fatal(err)
	}
}

func TestToken(t *testing.T) {
	f := newFake(t, single())
	f.token = "secret"
	c := f.client()
	if _, err := c.Download(t.Context(), ref(t, "o/n"), nil); err == nil || !strings.Contains(err.Error(), "set HF_TOKEN") {
		t.Errorf("%v", err)
	}
	c.Token = "wrong"
	if _, err := c.Download(t.Context(), ref(t, "o/n"), nil); err == nil || !strings.Contains(err.Error(), "HF_TOKEN is not accepted") {
		t.Errorf("%v", err)
	} else if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the token is in the error: %v", err)
	}
	c.Token = "secret"
	if _, err := c.Download(t.Context(), ref(t, "o/n"), nil); err != nil {
		t.Error(err)
	}
}

func TestDownloadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		files  map[string]string
		change func(*fake, *Client)
		want   string
	}{
		"wrong bytes": {single(), func(f *fake, _ *Client) {
			f.bytes["model.safetensors"] = []byte(strings.Repeat("Weights ", 100000))
		}, "model.safetensors: the bytes do not match the hash"},
		"wrong bytes, small":  {single(), func(f *fake, _ *Client) { f.bytes["config.json"] = []byte(`{"model_type":"LLAMA"}`) }, "config.json: the bytes do not match"},
		"more bytes":          {single(), func(f *fake, _ *Client) { f.bytes["config.json"] = []byte(`{"model_type":"llama"} `) }, "more than the 22 bytes listed"},
		"fewer bytes":         {single(), func(f *fake, _ *Client) { f.bytes["config.json"] = []byte(`{}`) }, "unexpected EOF"},
		"breaks off for ever": {single(), func(f *fake, _ *Client) { f.drop = 1 << 30; f.noRanges = true; f.bytes["model.safetensors"] = []byte{} }, "unexpected EOF"},
		"gated":               {single(), func(f *fake, _ *Client) { f.status = 403 }, "accept the model's conditions at"},
		"gated, token":        {single(), func(f *fake, c *Client) { f.status = 403; c.Token = "t" }, "use a token that may read it"},
		"not there":           {single(), func(f *fake, _ *Client) { f.status = 404 }, `no such model, revision "main" or file`},
		"busy for ever":       {single(), func(f *fake, _ *Client) { f.busy = 1 << 30 }, "503"},
		"odd status":          {single(), func(f *fake, _ *Client) { f.status = 418 }, "418"},
		"too large":           {single(), func(_ *fake, c *Client) { c.MaxBytes = 1000 }, "more than 1000 bytes"},
		"no weights":          {map[string]string{"config.json": "{}"}, nil, "no weights"},
		"only pickles":        {map[string]string{"config.json": "{}", "pytorch_model.bin": ""}, nil, "convert the model to safetensors"},
		"index of elsewhere":  {map[string]string{indexFile: `{"weight_map": {"a": "../x.safetensors"}}`}, nil, "not a safetensors file beside it"},
		"index of nothing":    {map[string]string{indexFile: `{"weight_map": {}}`}, nil, "lists 0 files"},
		"index of missing":    {map[string]string{indexFile: `{"weight_map": {"a": "x.safetensors"}}`}, nil, "which the model does not have"},
		"index of rubbish":    {map[string]string{indexFile: `[]`}, nil, "cannot unmarshal"},
		"nobody there":        {single(), func(f *fake, _ *Client) { f.hub.Close() }, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, tc.files)
			c := f.client()
			if tc.change != nil {
				tc.change(f, c)
			}
			_, err := c.Download(t.Context(), ref(t, "o/n"), nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "download hf:o/n: ") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if _, ok := c.repo("models", Ref{Repo: "o/n"}).complete(commit, doneMark); ok {
				t.Error("the snapshot is marked as complete")
			}
		})
	}
}

func TestCancel(t *testing.T) {
	f := newFake(t, single())
	f.busy = 1 << 30
	c := f.client()
	c.Wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := c.Download(ctx, ref(t, "o/n"), nil)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestParseRef(t *testing.T) {
	for in, want := range map[string]Ref{
		"hf:o/n": {"o/n", "main"}, "o/n": {"o/n", "main"}, "hf:Org.x/Name-1.5_b@refs/pr/1": {"Org.x/Name-1.5_b", "refs/pr/1"},
	} {
		if got, err := Parse(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "hf:", "n", "hf:o/n/x", "hf:../n", "hf:o/..", "o/n@", "o/n@../x", "o/n@a//b", "o/n@/x", "o/n@x/", "o/n@a b", "o n/x", "hf:o/n?x"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestFromEnv(t *testing.T) {
	t.Setenv("HF_ENDPOINT", "http://mirror/")
	t.Setenv("HF_TOKEN", "t")
	t.Setenv("HF_HOME", "")
	t.Setenv("HF_HUB_CACHE", "")
	if c := FromEnv("d"); c.Dir != "d" || c.endpoint() != "http://mirror" || c.Token != "t" {
		t.Errorf("%+v", c)
	}
	t.Setenv("HF_HOME", "/h")
	if c := FromEnv("d"); c.Dir != filepath.Join("/h", "hub") {
		t.Errorf("%+v", c)
	}
}

func FuzzListing(f *testing.F) {
	fk := &fake{files: map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("w"), indexFile: []byte("{}")}}
	good, err := json.Marshal(fk.listing())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte(`{"weight_map": {"a": "model.safetensors"}}`))
	f.Add([]byte(`{"sha":"`+commit+`","siblings":[{"rfilename":"../x","size":-1}]}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, data, index []byte) {
		l, err := readListing(data)
		if err != nil {
			return
		}
		files, err := l.wanted(index)
		if err != nil {
			return
		}
		for _, x := range files {
			if filepath.Base(x.name) != x.name || x.size < 0 || !hashPattern.MatchString(x.hash) {
				t.Fatalf("%+v", x)
			}
		}
	})
}
