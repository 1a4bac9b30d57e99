package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Today is a value for the variable strftime_now: the function by which templates ask for the date. It tells t, always,
// so that two renderings of one conversation agree; templates have no other way to a clock.
func Today(t time.Time) any {
	return function(func(r *run, a args) (any, error) {
		format, ok := a.get(0, "format", nil).(string)
		if !ok || len(format) > 256 {
			return nil, errors.New("strftime_now wants a format of at most 256 bytes")
		}
		out, err := strftime(t, format)
		return out, errors.Join(err, r.charge(len(out)))
	})
}

// strftime knows Python's directives that do not depend on a locale other than C.
func strftime(t time.Time, format string) (string, error) {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'm': "01", 'y': "06", 'Y': "2006", 'H': "15", 'I': "03",
		'M': "04", 'S': "05", 'p': "PM", 'j': "002", 'z': "", 'Z': "", 'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06", 'e': "_2",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		unpadded := format[i] == '-' && i+1 < len(format)
		if unpadded {
			i++
		}
		layout, ok := layouts[format[i]]
		switch {
		case ok && unpadded:
			b.WriteString(strings.TrimLeft(t.Format(layout), "0 "))
		case ok:
			b.WriteString(t.Format(layout))
		case format[i] == '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("strftime_now does not know %%%c", format[i])
		}
	}
	return b.String(), nil
}
