package api

import (
	"bytes"
	"encoding/json"
)

// sparse is v as JSON without null, empty texts and empty objects. A spec that was not completed yet says then what its author wrote and
// nothing else, so that a daemon is not asked about keys that are newer than it.
func sparse(v any) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // the digits stay as they are
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	prune(tree)
	return json.Marshal(tree)
}

// prune removes what says nothing from v's objects, and reports whether v itself says nothing.
func prune(v any) (empty bool) {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case map[string]any:
		for k, e := range v {
			if prune(e) {
				delete(v, k)
			}
		}
		return len(v) == 0
	case []any:
		for _, e := range v {
			prune(e)
		}
	}
	return false
}
