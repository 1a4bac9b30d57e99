package model

// windows says which layers see a sliding window: what layer_types says, or else the architecture's rule.
func (p *parser) windows() {
	r, c := p.raw, p.c
	c.Windows = make([]int, max(c.Layers, 0))
	size := p.window()
	if size == nil || p.err != nil {
		return
	}
	w := p.size("sliding_window", size, maxPositions)
	if r.LayerTypes != nil && len(*r.LayerTypes) != c.Layers {
		p.fail("layer_types: %d of them for %d layers", len(*r.LayerTypes), c.Layers)
		return
	}
	for i := range c.Windows {
		slides := p.slides(i)
		if r.LayerTypes != nil {
			kind := (*r.LayerTypes)[i]
			if slides = kind == "sliding_attention"; !slides && kind != "full_attention" {
				p.fail("layer_types: %.40q is not supported", kind)
			}
		}
		if slides {
			c.Windows[i] = w
		}
	}
}

// window is the size of the window, nil: the model has none. Defaults are transformers'.
func (p *parser) window() *int {
	r := p.raw
	switch p.c.Type {
	case "llama":
		return nil
	case "qwen2", "qwen3":
		if r.UseWindow == nil || !*r.UseWindow {
			return nil
		}
	case "mistral", "gemma2":
		if !r.Window.there {
			return new(4096)
		}
	}
	return r.Window.value
}

// slides is an architecture's rule for layer i of a model that has a window: all of Mistral's and Phi-3's, the last of
// Qwen's, and every other of Gemma 2's.
func (p *parser) slides(i int) bool {
	switch p.c.Type {
	case "qwen2", "qwen3":
		return i >= *or(p.raw.MaxWindow, 28)
	case "gemma2":
		return (i+1)%max(*or(p.raw.Pattern, 2), 1) != 0
	}
	return true
}
