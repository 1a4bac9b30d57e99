// Package data turns files of rows into materialised positions, and reads positions back wherever they are trained on.
//
// A row is one line of a JSONL file: a conversation, an instruction, a prompt with its completion, plain text, or token
// ids made elsewhere. Its keys say which (see Formats). A position is a row as the model sees it: ids and, beside each,
// the label; label -100 (Ignore) means that nothing is learned there, and position t ≥ 1 with another label is a target
// token (the model predicts it from what stands before it).
//
// Build writes positions into blocks and returns a manifest of kind "data" with two files:
//
//	positions  the positions one after the other. A position of n tokens is n little-endian 32-bit words: bits 0-30 the
//	           id, bit 31 set when the label equals the id, clear when it is Ignore. If a row brought other labels, the
//	           n labels follow as little-endian signed 32-bit words.
//	index      for each position two unsigned varints: n·2 + (1 when labels follow), and the number of target tokens.
//
// Where positions are packed, a position holds several rows, one behind the other, that do not see each other; then each
// entry of the index ends with the number of its rows and the tokens of each but the last, as varints, and "format" is "2".
//
// Both are cut into blocks of shard.MaxBlock bytes, so that where a position lies follows from the index alone and a
// node fetches only the blocks of the positions it works on. The manifest's Meta holds, in decimal, "rows", "tokens",
// "targets", "longest" (tokens of the longest position), "format" ("1"), and, packed, "packed", the number of rows. The same rows, tokenizer and options give
// the same bytes on every machine.
//
// Reader and Sampler are safe for concurrent use. Everything read is bounded, and bytes that are not what the
// index promises give an error.
package data

// Ignore is the label of a token from which nothing is learned.
const Ignore = -100

const (
	// MaxRows bounds the positions of one manifest, and with them the memory of its index.
	MaxRows = 1 << 25
	// MaxTokens bounds the tokens of one position.
	MaxTokens = 1 << 20
	// MaxLine bounds the bytes of one row.
	MaxLine = 32 << 20

	maxID = 1<<31 - 1
)

// Example is one position.
type Example struct {
	IDs    []int32
	Labels []int32 // as long as IDs; Ignore: nothing is learned here
	Cuts   []int   // where rows after the first begin, ascending; none: it is one row
}

// Targets counts the target tokens: nothing predicts the first of a row.
func (e Example) Targets() int {
	n := 0
	for t := 1; t < len(e.Labels); t++ {
		if e.Labels[t] != Ignore {
			n++
		}
	}
	for _, t := range e.Cuts {
		if e.Labels[t] != Ignore {
			n--
		}
	}
	return n
}

// cutsFit says that each row has a token.
func (e Example) cutsFit() bool {
	at := 0
	for _, t := range e.Cuts {
		if t <= at || t >= len(e.IDs) {
			return false
		}
		at = t
	}
	return true
}

// explicit says that labels are not the ids with some ignored, and have to be written out.
func (e Example) explicit() bool {
	for t, l := range e.Labels {
		if l != Ignore && l != e.IDs[t] {
			return true
		}
	}
	return false
}
