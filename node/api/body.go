package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
)

// readBody decodes a JSON request body strictly.
func readBody(r *http.Request, v any) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return err
		}
		return BadRequest("request body: %s", explain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return BadRequest("request body: more than one JSON value")
	}
	return nil
}

// explain says what is wrong with a JSON value in the words of who wrote it: keys and kinds of JSON, not types of this program.
func explain(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at := "the value"
		if e.Field != "" {
			at = fmt.Sprintf("%q", e.Field)
		}
		return fmt.Sprintf("%s: want %s, not %s", at, jsonKind(e.Type), e.Value)
	}
	if errors.Is(err, io.EOF) {
		return "it is empty; want a JSON object"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonKind(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "a number"
}
