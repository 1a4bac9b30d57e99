package tokenizer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// fromTiktoken reads OpenAI's cl100k_base: a line for each token, its bytes in base64 and its rank, which is its id.
func fromTiktoken(_ fs.FS, data []byte, _ *config) (*builder, error) {
	b, err := readRanks(data)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		id      int32
		content string
	}{
		{100257, "<|endoftext|>"}, {100258, "<|fim_prefix|>"}, {100259, "<|fim_middle|>"}, {100260, "<|fim_suffix|>"},
		{100276, "<|endofprompt|>"},
	} {
		b.added = append(b.added, added{ID: s.id, Content: s.content, Special: true})
	}
	b.eos = 100257
	return b, nil
}

// readRanks reads the ranks of a model that splits like cl100k_base; Llama 3 does.
func readRanks(data []byte) (*builder, error) {
	b := newBuilder()
	b.model.byteLevel, b.decode.byteLevel = true, true
	sc, _ := knownPattern(patternCL100K)
	b.split = scan(sc)
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := b.rankLine(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	b.model.ignoreMerges = true // tiktoken looks whole words up first
	return b, b.model.mergesFromVocab(func(id int32) (int32, bool) { return id, true })
}

func (b *builder) rankLine(line []byte) error {
	text, rank, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return errors.New("not a token and its rank")
	}
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(raw) == 0 {
		return errors.New("the token is not base64")
	}
	id, err := strconv.ParseInt(string(rank), 10, 32)
	if err != nil {
		return fmt.Errorf("rank %.20q is not a number", rank)
	}
	spelling := spell(raw)
	if _, twice := b.ids[spelling]; twice {
		return errors.New("the token stands there twice")
	}
	if err := b.set(spelling, int32(id)); err != nil {
		return err
	}
	b.token(raw, int32(id))
	return nil
}
