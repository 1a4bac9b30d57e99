package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// column is a node of a table's schema, as it becomes JSON.
type column struct {
	key      []byte // its name as JSON
	kind     columnKind
	children []*column // of an object; the element of a list
	lo, hi   int       // its leaves among all
	def, rep int       // definition level from which it is there; repetition level of a list's next element
	optional bool      // null below def
}

type columnKind int

const (
	leafColumn columnKind = iota
	objectColumn
	listColumn
)

const maxLevels = 32 // of a schema

// shapeOf reads a schema. Lists are written in three levels, list, its repeated group, and the element, or in older ways with
// one level less.
func shapeOf(c *parquet.Column, leaves *int, level int) (*column, error) {
	key, err := json.Marshal(c.Name())
	if err != nil {
		return nil, err
	}
	out := &column{key: key, lo: *leaves, optional: c.Optional(), def: c.MaxDefinitionLevel(), rep: c.MaxRepetitionLevel()}
	if c.Repeated() && level > 0 { // a list that is written without saying so
		out.kind, out.optional = listColumn, false
		element := &column{lo: *leaves, def: out.def, rep: out.rep}
		out.children = []*column{element}
		err = element.fill(c, leaves, level)
		out.hi = *leaves
		return out, err
	}
	return out, out.fill(c, leaves, level)
}

// fill reads what is below c into o.
func (o *column) fill(c *parquet.Column, leaves *int, level int) error {
	defer func() { o.hi = *leaves }()
	if level > maxLevels {
		return errors.New("the schema nests too deeply")
	}
	fields := c.Columns()
	if len(fields) == 0 {
		if !c.Leaf() {
			return fmt.Errorf("the column %.40q has no values", c.Name())
		}
		if *leaves++; *leaves > maxColumns {
			return fmt.Errorf("more than %d columns", maxColumns)
		}
		return nil
	}
	o.kind = objectColumn
	if inner := fields[0]; len(fields) == 1 && inner.Repeated() && level > 0 {
		o.kind = listColumn
		o.rep = inner.MaxRepetitionLevel()
		element := inner
		if deeper := inner.Columns(); len(deeper) == 1 && !deeper[0].Repeated() && inner.Name() != "array" {
			element = deeper[0]
		}
		child := &column{lo: *leaves, def: element.MaxDefinitionLevel(), rep: element.MaxRepetitionLevel(), optional: element.Optional()}
		o.children = []*column{child}
		o.def = inner.MaxDefinitionLevel() // from which there is an element
		return child.fill(element, leaves, level+1)
	}
	for _, f := range fields {
		child, err := shapeOf(f, leaves, level+1)
		if err != nil {
			return err
		}
		o.children = append(o.children, child)
	}
	return nil
}

// assembler writes a row as JSON from the values of its leaves, each with its levels (Melnik et al. 2010, "Dremel", section
// 4.3).
type assembler struct {
	out    []byte
	values [][]parquet.Value // that are left, by leaf
}

var errLevels = errors.New("the columns of a row do not fit together")

// first is the next value of the first leaf below c.
func (a *assembler) first(c *column) (parquet.Value, error) {
	if c.lo >= c.hi || len(a.values[c.lo]) == 0 {
		return parquet.Value{}, errLevels
	}
	return a.values[c.lo][0], nil
}

// skip drops the next value of each leaf below c, which say that c is not there.
func (a *assembler) skip(c *column) error {
	for i := c.lo; i < c.hi; i++ {
		if len(a.values[i]) == 0 {
			return errLevels
		}
		a.values[i] = a.values[i][1:]
	}
	return nil
}

func (a *assembler) value(c *column) error {
	v, err := a.first(c)
	if err != nil {
		return err
	}
	switch {
	case c.kind == listColumn:
		return a.list(c, v)
	case c.optional && v.DefinitionLevel() < c.def:
		a.out = append(a.out, "null"...)
		return a.skip(c)
	case c.kind == objectColumn:
		return a.object(c)
	}
	a.values[c.lo] = a.values[c.lo][1:]
	return a.scalar(v)
}

func (a *assembler) object(c *column) error {
	a.out = append(a.out, '{')
	for i, f := range c.children {
		if i > 0 {
			a.out = append(a.out, ',')
		}
		a.out = append(append(a.out, f.key...), ':')
		if err := a.value(f); err != nil {
			return err
		}
	}
	a.out = append(a.out, '}')
	return nil
}

// list writes elements until one begins at a lower level.
func (a *assembler) list(c *column, v parquet.Value) error {
	if v.DefinitionLevel() < c.def {
		if c.optional && v.DefinitionLevel() < c.def-1 {
			a.out = append(a.out, "null"...)
		} else {
			a.out = append(a.out, "[]"...)
		}
		return a.skip(c)
	}
	a.out = append(a.out, '[')
	for n := 0; ; n++ {
		if n > 0 {
			a.out = append(a.out, ',')
		}
		if err := a.value(c.children[0]); err != nil {
			return err
		}
		if rest := a.values[c.lo]; len(rest) == 0 || rest[0].RepetitionLevel() < c.rep {
			break
		}
	}
	a.out = append(a.out, ']')
	return nil
}

func (a *assembler) scalar(v parquet.Value) error {
	if v.IsNull() {
		a.out = append(a.out, "null"...)
		return nil
	}
	switch v.Kind() {
	case parquet.Boolean:
		a.out = strconv.AppendBool(a.out, v.Boolean())
	case parquet.Int32:
		a.out = strconv.AppendInt(a.out, int64(v.Int32()), 10)
	case parquet.Int64:
		a.out = strconv.AppendInt(a.out, v.Int64(), 10)
	case parquet.Float:
		a.float(float64(v.Float()), 32)
	case parquet.Double:
		a.float(v.Double(), 64)
	case parquet.ByteArray, parquet.FixedLenByteArray:
		text, err := json.Marshal(strings.ToValidUTF8(string(v.ByteArray()), "\uFFFD"))
		if err != nil {
			return err
		}
		a.out = append(a.out, text...)
	default:
		a.out = append(a.out, "null"...) // a time stamp of 96 bits: nothing to learn
	}
	if len(a.out) > 4*MaxLine {
		return fmt.Errorf("%d rows of more than %d bytes", readRows, 4*MaxLine)
	}
	return nil
}

func (a *assembler) float(f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		a.out = append(a.out, "null"...) // JSON has no word for it
		return
	}
	a.out = strconv.AppendFloat(a.out, f, 'g', -1, bits)
}
