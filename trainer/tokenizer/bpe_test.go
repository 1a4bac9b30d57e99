package tokenizer

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/tokenizertest"
)

// naive merges by the book: the pair of lowest rank, the leftmost first, until there is none.
func naive(b *bpe, ids []int32) []int32 {
	for {
		at := -1
		var best merge
		for i := range len(ids) - 1 {
			if m, ok := b.merges[pair(ids[i], ids[i+1])]; ok && (at < 0 || m.rank < best.rank) {
				at, best = i, m
			}
		}
		if at < 0 {
			return ids
		}
		ids = slices.Replace(ids, at, at+2, best.id)
	}
}

func TestMergeAgainstTheBook(t *testing.T) {
	tok := small(t, tokenizertest.Options{Text: strings.Repeat("abab cdcd abcabc aabb ", 50), Size: 300})
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		w := make([]byte, 1+rnd.IntN(60))
		for i := range w {
			w[i] = "abcd "[rnd.IntN(5)]
		}
		start := tok.bpe.symbols(nil, string(w))
		want := naive(tok.bpe, slices.Clone(start))
		prefix := []int32{7, 7}
		got := tok.bpe.merge(append(slices.Clone(prefix), start...), 2)
		if !slices.Equal(got[2:], want) {
			t.Fatalf("%q: %v, want %v", w, got[2:], want)
		}
		if long := tok.bpe.mergeLong(slices.Clone(start), 0); !slices.Equal(long, want) {
			t.Fatalf("%q with a heap: %v, want %v", w, long, want)
		}
	}
}

// TestLongWords encodes a megabyte without a place to cut: quadratic merging would take hours.
func TestLongWords(t *testing.T) {
	tok := small(t, tokenizertest.Options{Text: strings.Repeat("ab abab abababab ", 50), Size: 290})
	text := strings.Repeat("ab", 1<<19)
	began := time.Now()
	ids, err := tok.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	if tok.Decode(ids) != text {
		t.Error("the text does not come back")
	}
}

// TestScannersAgainstPatterns compares each scanner with the regular expression it stands for.
func TestScannersAgainstPatterns(t *testing.T) {
	var texts []string
	for _, e := range expectations(t, "gpt2") {
		texts = append(texts, e.Text)
	}
	for _, name := range []string{"tinystories_sample.txt", "wizard_of_oz_excerpt.txt"} {
		data, err := os.ReadFile(filepath.Join(shared(t, "text"), name))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.ToValidUTF8(string(data[:min(len(data), 20000)]), ""))
	}
	compareScanners(t, texts)
}

// TestScannersOnNoise does so on random strings of the characters that the patterns tell apart.
func TestScannersOnNoise(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	alphabet := []rune("aZé漢9٣½'sStrelmdLV \t\n\r\u00a0\u2003\u3000._-!€😀\u0301\u200d\u212a\x00\u0085\ufffd")
	var texts []string
	for range 1500 {
		b := make([]rune, 1+rnd.IntN(12))
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		texts = append(texts, string(b))
	}
	compareScanners(t, texts)
}

// TestLongS: where case is ignored, Unicode folds U+017F to s, as the engines of the original tokenizers do; regexp2
// does not, so this case is not compared with it.
func TestLongS(t *testing.T) {
	if n := scanModern("'\u017fx", 3); n != 3 {
		t.Errorf("the first word has %d bytes", n)
	}
	if n := scanGPT2("'\u017fx"); n != 1 {
		t.Errorf("GPT-2: the first word has %d bytes", n)
	}
}

func compareScanners(t *testing.T, texts []string) {
	t.Helper()
	for _, p := range []string{patternGPT2, patternLlama3, patternQwen2} {
		find, err := pattern(p)
		if err != nil {
			t.Fatal(err)
		}
		sc, ok := knownPattern(p)
		if !ok {
			t.Fatalf("no scanner for %s", p)
		}
		for _, text := range texts {
			want, err := find(text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			_ = scan(sc)(text, begin, func(w string) error { got = append(got, w); return nil }) // emit does not fail
			if !slices.Equal(got, want.parts) {
				t.Errorf("%.30s on %.60q\ngot  %.200q\nwant %.200q", p, text, got, want.parts)
			}
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a b", "I'll  go\r\n\n \t12345", "漢字 🙂 \u0301é", "<s>x</s>", "\xff\xfe", "ſ'ſ'S"} {
		f.Add(s)
	}
	sp, err := fromModel(nil, spFile(spFixture()), &config{})
	if err != nil {
		f.Fatal(err)
	}
	spTok, err := sp.finish(&config{})
	if err != nil {
		f.Fatal(err)
	}
	byteTok := small(f, tokenizertest.Options{Text: "the cat and the hat and the bat", Size: 280})
	f.Fuzz(func(t *testing.T, s string) {
		for _, tok := range []*Tokenizer{byteTok, spTok} {
			ids, err := tok.Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := tok.DecodeAll(ids), strings.ToValidUTF8(s, "\ufffd"); got != want {
				t.Fatalf("%q comes back as %q", want, got)
			}
			for _, encode := range []func(string) ([]int32, error){tok.EncodeSpecial, tok.Continue, tok.Full} {
				ids, err := encode(s)
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range ids {
					if tok.Spelling(id) == "" {
						t.Fatalf("id %d is not a token", id)
					}
				}
			}
		}
	})
}
