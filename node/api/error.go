package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Error is a refusal with the HTTP status that fits it. Handlers turn any other error into status 500.
type Error struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// NotFound, Conflict and BadRequest make the refusals that an implementation of the interfaces needs.
func NotFound(format string, a ...any) error {
	return &Error{http.StatusNotFound, fmt.Sprintf(format, a...)}
}

// Conflict says that the request contradicts what is there.
func Conflict(format string, a ...any) error {
	return &Error{http.StatusConflict, fmt.Sprintf(format, a...)}
}

// BadRequest says that the request itself is wrong.
func BadRequest(format string, a ...any) error {
	return &Error{http.StatusBadRequest, fmt.Sprintf(format, a...)}
}

// failure is the body of every refusal.
type failure struct {
	Error Error `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(failure{*e})
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{e.Status, err.Error()} // with the context that was wrapped around it
	}
	if m, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{http.StatusRequestEntityTooLarge, fmt.Sprintf("request body larger than %d bytes", m.Limit)}
	}
	return &Error{http.StatusInternalServerError, err.Error()}
}
