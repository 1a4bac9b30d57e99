package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// added is a token that is looked for in the text before it is split.
type added struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no letter, digit or underscore touches it
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // takes the white space after it
	Normalized bool   `json:"normalized"`  // is looked for in normalized text
	Special    bool   `json:"special"`
}

const (
	maxAdded      = 256     // bytes of one added token
	maxAddedTotal = 1 << 20 // bytes of all
)

// matcher finds the longest added token at each place, the leftmost first. It is a trie whose nodes lie in one slice.
type matcher struct {
	tokens []added
	nodes  []trieNode // 0 is the root
	first  [256]bool
}

type trieNode struct {
	child, sibling int32 // 0: none
	token          int32 // index into tokens plus 1; 0: none ends here
	b              byte
}

func newMatcher(tokens []added) (*matcher, error) {
	m := &matcher{tokens: tokens, nodes: make([]trieNode, 1)}
	total := 0
	for i, a := range tokens {
		total += len(a.Content)
		switch {
		case a.Content == "":
			return nil, errors.New("an added token is empty")
		case len(a.Content) > maxAdded:
			return nil, fmt.Errorf("added token %d has %d bytes; at most %d", a.ID, len(a.Content), maxAdded)
		case total > maxAddedTotal:
			return nil, fmt.Errorf("added tokens of more than %d bytes", maxAddedTotal)
		}
		m.insert(a.Content, int32(i+1))
	}
	return m, nil
}

func (m *matcher) insert(content string, token int32) {
	m.first[content[0]] = true
	at := int32(0)
	for i := range len(content) {
		next := m.step(at, content[i])
		if next == 0 {
			next = int32(len(m.nodes))
			m.nodes = append(m.nodes, trieNode{b: content[i], sibling: m.nodes[at].child})
			m.nodes[at].child = next
		}
		at = next
	}
	m.nodes[at].token = token
}

func (m *matcher) step(at int32, b byte) int32 {
	n := m.nodes[at].child
	for n != 0 && m.nodes[n].b != b {
		n = m.nodes[n].sibling
	}
	return n
}

// longest finds the longest token that s[i:] begins with; nil: none.
func (m *matcher) longest(s string, i int) (*added, int) {
	if !m.first[s[i]] {
		return nil, 0
	}
	var best *added
	end := 0
	for at, j := int32(0), i; j < len(s); j++ {
		if at = m.step(at, s[j]); at == 0 {
			break
		}
		if t := m.nodes[at].token; t > 0 && (!m.tokens[t-1].SingleWord || alone(s, i, j+1)) {
			best, end = &m.tokens[t-1], j+1
		}
	}
	return best, end
}

// alone says that no word character touches s[lo:hi].
func alone(s string, lo, hi int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:lo])
	after, _ := utf8.DecodeRuneInString(s[hi:])
	return (lo == 0 || !isWord(before)) && (hi == len(s) || !isWord(after))
}

// cut calls do with the pieces of s in order: (text, -1), or ("", id) for an added token.
func (m *matcher) cut(s string, do func(piece string, id int32) error) error {
	done := 0
	for i := 0; i < len(s); {
		a, end := m.longest(s, i)
		if a == nil {
			i++
			continue
		}
		left := s[done:i]
		if a.LStrip {
			left = strings.TrimRightFunc(left, unicode.IsSpace)
		}
		if a.RStrip {
			end += run(s[end:], unicode.IsSpace)
		}
		if left != "" {
			if err := do(left, -1); err != nil {
				return err
			}
		}
		if err := do("", a.ID); err != nil {
			return err
		}
		i, done = end, end
	}
	if done == len(s) {
		return nil
	}
	return do(s[done:], -1)
}
