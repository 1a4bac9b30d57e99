package tiny

// tokenizer is a byte-level BPE without merges, as Hugging Face's tokenizers store it.
func tokenizer() map[string]any {
	specials := []string{"<pad>", "<s>", "</s>"}
	vocab := map[string]int{}
	var added []map[string]any
	for i, s := range specials {
		vocab[s] = i
		added = append(added, map[string]any{"id": i, "content": s, "special": true, "single_word": false, "lstrip": false,
			"rstrip": false, "normalized": false})
	}
	for b, r := range byteRunes() {
		vocab[string(r)] = len(specials) + b
	}
	level := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	return map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": level, "post_processor": nil, "decoder": level,
		"model": map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []string{}},
	}
}

func tokenizerConfig() map[string]any {
	return map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
		"pad_token": "<pad>", "add_bos_token": true, "add_eos_token": false, "clean_up_tokenization_spaces": false}
}

// byteRunes is how byte-level BPE writes bytes: printable ones as themselves, the others from U+0100 on (Radford et al.
// 2019's released code).
func byteRunes() (runes [256]rune) {
	next := rune(256)
	for b := range runes {
		switch r := rune(b); {
		case r >= '!' && r <= '~', r >= '¡' && r <= '¬', r >= '®' && r <= 'ÿ':
			runes[b] = r
		default:
			runes[b] = next
			next++
		}
	}
	return runes
}
