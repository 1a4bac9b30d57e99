package tokenizer

type chat struct{}

func newChat(*config, *Tokenizer) (*chat, error) { return nil, nil }
