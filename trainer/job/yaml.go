package job

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth bounds nesting; a spec needs 4.
const maxDepth = 16

// readYAML reads one YAML document without anchors, aliases, tags or merge keys: a spec needs none of them, and
// without them a document is never larger than its text.
func readYAML(data []byte) (n *node, err error) {
	if err := shallow(data); err != nil {
		return nil, err
	}
	// The parser is somebody else's and its input is a stranger's.
	defer func() {
		if p := recover(); p != nil {
			n, err = nil, fmt.Errorf("not readable as YAML: %v", p)
		}
	}()
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey()) // node.add reports duplicates with both lines
	if err != nil {
		return nil, syntaxError(err)
	}
	var body ast.Node
	for _, d := range f.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return nil, fmt.Errorf("line %d: a second document; put each job in a file of its own", line(d.Body))
		}
		body = d.Body
	}
	if body == nil {
		return &node{kind: mapping, line: 1}, nil
	}
	return fromAST(body, 0)
}

// syntaxError keeps the first line of the parser's message, "[line:column] cause"; the rest quotes the text, which
// may be long.
func syntaxError(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	var l, c int
	if n, _ := fmt.Sscanf(first, "[%d:%d]", &l, &c); n == 2 {
		_, cause, _ := strings.Cut(first, "] ")
		return fmt.Errorf("line %d, column %d: not readable as YAML: %s", l, c, clip(cause, 200))
	}
	return fmt.Errorf("not readable as YAML: %s", clip(first, 200))
}

// shallow refuses text that nests deeper than any spec before a recursive parser sees it. It counts brackets without
// regard to quotes, and dashes and indentation at the start of a line, so it may refuse odd but legal strings.
func shallow(data []byte) error {
	for i, l := range strings.Split(string(data), "\n") {
		rest := strings.TrimLeft(l, " \t")
		dashes := 0
		for strings.HasPrefix(rest, "- ") || strings.HasPrefix(rest, "? ") {
			rest = strings.TrimLeft(rest[2:], " \t")
			dashes++
		}
		if dashes > maxDepth || len(l)-len(rest) > 8*maxDepth {
			return fmt.Errorf("line %d: nested too deeply", i+1)
		}
	}
	depth := 0
	for i, c := range data {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		}
		if depth > maxDepth {
			return fmt.Errorf("line %d: nested too deeply", 1+strings.Count(string(data[:i]), "\n"))
		}
	}
	return nil
}

func fromAST(n ast.Node, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested too deeply", line(n))
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return fromPairs(n.Values, line(n), depth)
	case *ast.MappingValueNode:
		return fromPairs([]*ast.MappingValueNode{n}, line(n), depth)
	case *ast.SequenceNode:
		out := &node{kind: sequence, line: line(n)}
		for _, v := range n.Values {
			item, err := fromAST(v, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case *ast.NullNode, nil:
		return &node{kind: null, line: line(n)}, nil
	case *ast.StringNode:
		return &node{kind: scalar, line: line(n), text: n.Value, quoted: isQuoted(n.GetToken())}, nil
	case *ast.LiteralNode:
		return &node{kind: scalar, line: line(n), text: n.Value.Value, quoted: true}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: scalar, line: line(n), text: n.GetToken().Value}, nil
	default:
		return nil, fmt.Errorf("line %d: %s is not used in a job spec; write the value out", line(n), strings.ToLower(n.Type().String()))
	}
}

func fromPairs(pairs []*ast.MappingValueNode, at, depth int) (*node, error) {
	out := &node{kind: mapping, line: at}
	for _, p := range pairs {
		k, err := fromAST(p.Key, depth+1)
		if err != nil {
			return nil, err
		}
		if k.kind != scalar {
			return nil, fmt.Errorf("line %d: a key must be a plain word", k.line)
		}
		v, err := fromAST(p.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if err := out.add(key{k.text, k.line, v}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isQuoted(t *token.Token) bool {
	return t != nil && (t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType)
}

func line(n ast.Node) int {
	if n == nil {
		return 1
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}
