package tokenizer

import (
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"
)

// bpe merges the symbols of a word, the lowest rank first and, among equals, the leftmost (Sennrich et al. 2016,
// arXiv:1508.07909).
type bpe struct {
	text         map[string]int32 // bytes of a token → id, added tokens not among them
	bytes        [256]int32       // id of a byte alone; -1: none
	byteLevel    bool             // symbols are bytes; else characters
	byteFallback bool             // a character without a token becomes its bytes
	ignoreMerges bool             // a word that is a token is taken whole
	fuseUnk      bool             // neighbouring unknown characters become one token
	unk          int32            // -1: unknown characters are dropped
	merges       map[uint64]merge // left id, right id

	cache wordCache
}

type merge struct {
	rank, id int32
}

func pair(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// word appends the tokens of one word.
func (b *bpe) word(ids []int32, w string) []int32 {
	if w == "" {
		return ids
	}
	if b.ignoreMerges {
		if id, ok := b.text[w]; ok {
			return append(ids, id)
		}
	}
	if got, ok := b.cache.get(w); ok {
		return append(ids, got...)
	}
	n := len(ids)
	ids = b.merge(b.symbols(ids, w), n)
	b.cache.put(w, ids[n:])
	return ids
}

// symbols appends the ids that merging starts from.
func (b *bpe) symbols(ids []int32, w string) []int32 {
	unknown := false // the symbol before was
	for i, step := 0, 1; i < len(w); i += step {
		id := b.bytes[w[i]]
		if !b.byteLevel {
			_, step = utf8.DecodeRuneInString(w[i:])
			id = b.char(w[i : i+step])
		}
		switch {
		case id >= 0:
			ids = append(ids, id)
		case b.byteFallback && !b.byteLevel && b.hasBytes(w[i:i+step]):
			for j := range step {
				ids = append(ids, b.bytes[w[i+j]])
			}
			id = 0
		case b.unk >= 0 && !(b.fuseUnk && unknown):
			ids = append(ids, b.unk)
		}
		unknown = id < 0
	}
	return ids
}

func (b *bpe) char(c string) int32 {
	if id, ok := b.text[c]; ok {
		return id
	}
	return -1
}

func (b *bpe) hasBytes(c string) bool {
	for i := range len(c) {
		if b.bytes[c[i]] < 0 {
			return false
		}
	}
	return true
}

// short is the number of symbols up to which looking through all pairs for each merge is faster than a heap (measured
// on English: most words have 4 to 8 bytes).
const short = 12

// merge merges ids[from:] in place and returns the shortened slice.
func (b *bpe) merge(ids []int32, from int) []int32 {
	if len(ids)-from > short {
		return b.mergeLong(ids, from)
	}
	for {
		best, at := merge{rank: 1<<31 - 1}, -1
		for i := from; i+1 < len(ids); i++ {
			if m, ok := b.merges[pair(ids[i], ids[i+1])]; ok && m.rank < best.rank {
				best, at = m, i
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = best.id
		ids = append(ids[:at+1], ids[at+2:]...)
	}
}

// mergeLong does the same in O(n log n): symbols are a linked list, and possible merges wait in a heap. A merge whose
// symbols have changed since is recognised when it comes up.
func (b *bpe) mergeLong(ids []int32, from int) []int32 {
	word := ids[from:]
	l := list{ids: word, next: make([]int32, len(word)), prev: make([]int32, len(word))}
	for i := range word {
		l.next[i], l.prev[i] = int32(i+1), int32(i-1)
	}
	var h heap
	for i := range len(word) - 1 {
		b.consider(&h, &l, int32(i))
	}
	for len(h) > 0 {
		c := h.pop()
		right, alive := l.right(c.at)
		if !alive || pair(l.ids[c.at], l.ids[right]) != c.pair {
			continue
		}
		l.ids[c.at] = b.merges[c.pair].id
		l.remove(right)
		b.consider(&h, &l, c.at)
		if p := l.prev[c.at]; p >= 0 {
			b.consider(&h, &l, p)
		}
	}
	out := from
	for i := int32(0); int(i) < len(word); i = l.next[i] {
		ids[out] = word[i]
		out++
	}
	return ids[:out]
}

// consider puts the merge of the symbol at i with the one after it into the heap, if there is one.
func (b *bpe) consider(h *heap, l *list, i int32) {
	right, ok := l.right(i)
	if !ok {
		return
	}
	p := pair(l.ids[i], l.ids[right])
	if m, ok := b.merges[p]; ok {
		h.push(candidate{p, m.rank, i})
	}
}

// list is a doubly linked list over the indexes of ids; removed elements have next -1.
type list struct {
	ids, next, prev []int32
}

func (l *list) right(i int32) (int32, bool) {
	n := l.next[i]
	return n, n >= 0 && int(n) < len(l.ids)
}

func (l *list) remove(i int32) {
	p, n := l.prev[i], l.next[i]
	l.next[p] = n
	if int(n) < len(l.ids) {
		l.prev[n] = p
	}
	l.next[i] = -1
}

// candidate is a merge that was possible when it was put into the heap.
type candidate struct {
	pair uint64
	rank int32
	at   int32
}

// heap is a binary min-heap by rank, then position.
type heap []candidate

func (h heap) less(i, j int) bool {
	if h[i].rank != h[j].rank {
		return h[i].rank < h[j].rank
	}
	return h[i].at < h[j].at
}

func (h *heap) push(c candidate) {
	*h = append(*h, c)
	a := *h
	for i := len(a) - 1; i > 0; {
		up := (i - 1) / 2
		if !a.less(i, up) {
			return
		}
		a[i], a[up] = a[up], a[i]
		i = up
	}
}

func (h *heap) pop() candidate {
	a := *h
	top, n := a[0], len(a)-1
	a[0] = a[n]
	a = a[:n]
	for i := 0; ; {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < n && a.less(c, least) {
				least = c
			}
		}
		if least == i {
			break
		}
		a[i], a[least] = a[least], a[i]
		i = least
	}
	*h = a
	return top
}

// addMerge registers that left and right merge into their concatenation.
func (b *bpe) addMerge(left, right, id, rank int32) {
	p := pair(left, right)
	if have, ok := b.merges[p]; !ok || rank < have.rank {
		b.merges[p] = merge{rank, id}
	}
}

// maxPiece and maxCuts bound a vocabulary from which merges are derived: every way to cut every token is tried. The
// longest token of cl100k has 128 bytes, and all of its cuts together look at 15 million.
const (
	maxPiece = 512     // bytes of a token
	maxCuts  = 1 << 31 // sum of the squares of their lengths
)

// mergesFromVocab derives merges from ranks: any two tokens merge if their concatenation is a token, which has the rank.
// So SentencePiece and tiktoken define their BPE.
func (b *bpe) mergesFromVocab(rank func(id int32) (int32, bool)) error {
	work := 0
	for text, id := range b.text {
		r, ok := rank(id)
		if !ok {
			continue
		}
		if len(text) > maxPiece {
			return fmt.Errorf("token %d has %d bytes; at most %d", id, len(text), maxPiece)
		}
		if work += len(text) * len(text); work > maxCuts {
			return errors.New("the vocabulary has too many long tokens")
		}
		for i := 1; i < len(text); i++ {
			left, ok1 := b.text[text[:i]]
			right, ok2 := b.text[text[i:]]
			if ok1 && ok2 {
				b.addMerge(left, right, id, r)
			}
		}
	}
	return nil
}

// wordCache remembers the tokens of words met before. When it is full it starts again: a cache that keeps the best
// words costs more than it saves.
type wordCache struct {
	mu    sync.RWMutex // guards words
	words map[string][]int32
}

const (
	cacheWords = 1 << 15
	cacheBytes = 48 // longest word that is kept
)

func (c *wordCache) get(w string) ([]int32, bool) {
	if len(w) > cacheBytes {
		return nil, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids, ok := c.words[w]
	return ids, ok
}

func (c *wordCache) put(w string, ids []int32) {
	if len(w) > cacheBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.words == nil || len(c.words) >= cacheWords {
		c.words = map[string][]int32{}
	}
	c.words[string([]byte(w))] = append([]int32(nil), ids...) // own bytes: w is part of a long text
}
