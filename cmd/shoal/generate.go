package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/trainer/generate"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// modelFlags name a model and how to run it.
type modelFlags struct {
	model, adapter, device string
}

func (f *modelFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.model, "model", "", "model: directory, stored name, or hf:owner/name[@rev]")
	cmd.Flags().StringVar(&f.adapter, "adapter", "", "PEFT directory to put over it")
	cmd.Flags().StringVar(&f.device, "device", "auto", "device to run on")
}

func (a *app) generateCmd() *cobra.Command {
	var f modelFlags
	var o generate.Options
	cmd := &cobra.Command{
		Use:   "generate --model DIR|name PROMPT",
		Short: "continue a prompt",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.MaxTokens < 0 || !(o.Temperature >= 0 && o.Temperature <= math.MaxFloat32) {
				return usagef("--max-tokens and --temperature are 0 or more")
			}
			return a.withSpeaker(cmd.Context(), f, func(s *speaker) error { return a.generate(cmd.Context(), s, args[0], o) })
		},
	}
	f.add(cmd)
	cmd.Flags().Float64Var(&o.Temperature, "temperature", 0, "0: always the most likely token")
	cmd.Flags().IntVar(&o.MaxTokens, "max-tokens", 256, "new tokens at most; 0: up to the model's limit")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 0, "of the sampling")
	cmd.Flags().BoolVar(&o.IgnoreEOS, "ignore-eos", false, "go on past the token that ends a text")
	return cmd
}

// speaker is a model with its tokenizer, ready to continue text.
type speaker struct {
	tok *tokenizer.Tokenizer
	gen *generate.Generator
}

// withSpeaker loads what f names and lends it to use.
func (a *app) withSpeaker(ctx context.Context, f modelFlags, use func(*speaker) error) error {
	if f.model == "" {
		return usagef("name a model with --model")
	}
	return a.withSources(func(src *prepare.Sources) error {
		dev, err := node.OpenDevice(f.device)
		if err != nil {
			return err
		}
		s, err := a.speaker(ctx, src, dev, f)
		if err == nil {
			err = use(s)
		}
		return errors.Join(err, dev.Close())
	})
}

func (a *app) speaker(ctx context.Context, src *prepare.Sources, dev kernels.Device, f modelFlags) (*speaker, error) {
	p := a.progress(0)
	m, err := src.Model(ctx, f.model, p.long)
	p.end()
	if err != nil {
		return nil, err
	}
	tok, err := m.Tokenizer()
	if err != nil {
		return nil, err
	}
	var adapter model.Files
	if f.adapter != "" {
		ad, err := src.Adapter(ctx, f.adapter)
		if err != nil {
			return nil, err
		}
		adapter = ad.Files
	}
	gen, err := generate.Open(dev, m.Files, adapter)
	if err != nil {
		return nil, err
	}
	return &speaker{tok: tok, gen: gen}, nil
}

// generation is the answer of generate --json.
type generation struct {
	Text string  `json:"text"`
	IDs  []int32 `json:"ids"` // new tokens
}

func (a *app) generate(ctx context.Context, s *speaker, prompt string, o generate.Options) error {
	show := a.out
	if a.json {
		show = io.Discard
	}
	g, err := s.say(ctx, prompt, o, func(text string) { io.WriteString(show, text) })
	if err != nil {
		return err
	}
	if a.json {
		return json.NewEncoder(a.out).Encode(g)
	}
	fmt.Fprintln(a.out)
	return nil
}

// say continues prompt and tells each piece of text as soon as it is whole characters.
func (s *speaker) say(ctx context.Context, prompt string, o generate.Options, tell func(string)) (generation, error) {
	g := generation{IDs: []int32{}}
	ids, err := s.tok.Prompt(prompt)
	if err != nil {
		return g, fmt.Errorf("prompt: %w", err)
	}
	dec := s.tok.Decoder()
	add := func(text string) { g.Text += text; tell(text) }
	for id, err := range s.gen.Tokens(ctx, ids, o) {
		if err != nil {
			return g, err
		}
		g.IDs = append(g.IDs, id)
		add(dec.Next(id))
	}
	add(dec.Flush())
	return g, nil
}
