package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

func (r *rowReader) messages(f row) (Example, error) {
	if raw, ok := f["messages"]; !ok || string(raw) == "null" {
		return Example{}, fmt.Errorf("the key \"messages\" is missing; the row has %s", f.keys())
	}
	return r.chat(unquoted(f["messages"]), f["tools"])
}

// unquoted is the JSON that a string holds: tables have it where JSON lines have lists.
func unquoted(raw json.RawMessage) json.RawMessage {
	var s string
	if b := bytes.TrimSpace(raw); len(b) == 0 || b[0] != '"' || json.Unmarshal(b, &s) != nil || !json.Valid([]byte(s)) {
		return raw
	}
	return json.RawMessage(s)
}

func (r *rowReader) chat(messages, tools json.RawMessage) (Example, error) {
	if tools = unquoted(tools); string(tools) == "null" {
		tools = nil
	}
	ids, said, err := r.tok.Chat(messages, tools)
	if err != nil {
		return Example{}, err
	}
	labels := append([]int32(nil), ids...)
	for t := range labels {
		if !said[t] && !r.all {
			labels[t] = Ignore
		}
	}
	return Example{IDs: ids, Labels: labels}, nil
}

// message is one of OpenAI's.
type message struct {
	Role      string     `json:"role"`
	Content   string     `json:"content"`
	Weight    *float64   `json:"weight,omitempty"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type toolCall struct {
	Type     string          `json:"type"`
	Function json.RawMessage `json:"function"`
}

// turn is one of ShareGPT's, or in OpenAI's words under ShareGPT's key.
type turn struct {
	From, Value   *string
	Role, Content *string
	Weight        *float64
}

// conversations reads ShareGPT's form of messages. What calls a function there is a text; where that is the call in JSON
// and the chat template can write calls, it becomes one, with the tools; else it stays a text.
func (r *rowReader) conversations(f row) (Example, error) {
	var turns []turn
	if err := json.Unmarshal(unquoted(f["conversations"]), &turns); err != nil {
		return Example{}, fmt.Errorf("conversations: %w", err)
	}
	if len(turns) == 0 {
		return Example{}, errors.New("conversations is not a list with a turn in it")
	}
	var plain, calling []message
	if raw, ok := f["system"]; ok && string(raw) != "null" {
		system, err := f.str("system", false)
		if err != nil {
			return Example{}, err
		}
		if system != "" {
			plain = append(plain, message{Role: "system", Content: system})
		}
	}
	calling = append(calling, plain...)
	for i, t := range turns {
		if t.From == nil && t.Value == nil {
			t.From, t.Value = t.Role, t.Content
		}
		if t.From == nil || t.Value == nil {
			return Example{}, fmt.Errorf("conversations: turn %d lacks from or value", i)
		}
		m := message{Role: roleOf(*t.From), Content: *t.Value, Weight: t.Weight}
		plain = append(plain, m)
		if calls := callsOf(t); len(calls) > 0 {
			m.Content, m.ToolCalls = "", calls
		}
		calling = append(calling, m)
	}
	if e, err := r.write(calling, f["tools"]); err == nil {
		return e, nil
	}
	return r.write(plain, nil)
}

func (r *rowReader) write(messages []message, tools json.RawMessage) (Example, error) {
	raw, err := json.Marshal(messages)
	if err != nil {
		return Example{}, err
	}
	return r.chat(raw, tools)
}

// callsOf reads what a turn calls: {"name", "arguments"}, or a list of them; nothing if it is another text.
func callsOf(t turn) (out []toolCall) {
	if *t.From != "function_call" {
		return nil
	}
	text := bytes.TrimSpace([]byte(*t.Value))
	var list []json.RawMessage
	if json.Unmarshal(text, &list) != nil {
		list = []json.RawMessage{text}
	}
	for _, raw := range list {
		var f struct {
			Name      *string
			Arguments json.RawMessage
		}
		if json.Unmarshal(raw, &f) != nil || f.Name == nil || f.Arguments == nil {
			return nil
		}
		out = append(out, toolCall{"function", raw})
	}
	return out
}

func roleOf(from string) string {
	switch from {
	case "human", "user":
		return "user"
	case "gpt", "assistant", "chatgpt", "function_call":
		return "assistant"
	case "observation", "tool", "function_response":
		return "tool"
	}
	return from
}
