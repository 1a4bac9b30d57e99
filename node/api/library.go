package api

import (
	"context"
	"net/http"
)

func (s *Server) libraryRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/models", answer(func(r *http.Request) ([]Item, error) { return s.Library.Models(r.Context()) }))
	mux.Handle("POST /api/v1/models", long(importing(s.Library.ImportModel)))
	mux.Handle("GET /api/v1/datasets", answer(func(r *http.Request) ([]Item, error) { return s.Library.Datasets(r.Context()) }))
	mux.Handle("POST /api/v1/datasets", long(importing(s.Library.AddDataset)))
}

type importer func(context.Context, ImportRequest, Progress) (Item, error)

func importing(take importer) func(*http.Request, Progress) (Item, error) {
	return func(r *http.Request, p Progress) (Item, error) {
		var req ImportRequest
		if err := readBody(r, &req); err != nil {
			return Item{}, err
		}
		if req.Path == "" {
			return Item{}, BadRequest("path is missing: name a directory, a file or hf:owner/name")
		}
		return take(r.Context(), req, p)
	}
}
