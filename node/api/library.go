package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

func (s *Server) libraryRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/models", answer(func(r *http.Request) ([]Item, error) { return s.Library.Models(r.Context()) }))
	mux.Handle("POST /api/v1/models", long(importing(s.Library.ImportModel)))
	mux.Handle("GET /api/v1/datasets", answer(func(r *http.Request) ([]Item, error) { return s.Library.Datasets(r.Context()) }))
	mux.Handle("POST /api/v1/datasets", long(importing(s.Library.AddDataset)))
	mux.Handle("DELETE /api/v1/models/{name}", answer(func(r *http.Request) (Removed, error) {
		return s.Library.RemoveModel(r.Context(), r.PathValue("name"))
	}))
	mux.Handle("DELETE /api/v1/datasets/{name}", answer(func(r *http.Request) (Removed, error) {
		return s.Library.RemoveDataset(r.Context(), r.PathValue("name"))
	}))
	mux.HandleFunc("GET /api/v1/blocks/{cid}", s.block)
}

// block answers with the bytes of a block. Commands that read stored models in their own process use it while the daemon
// has the store.
func (s *Server) block(w http.ResponseWriter, r *http.Request) {
	c, err := cid.Decode(r.PathValue("cid"))
	if err == nil {
		err = shard.CheckCID(c)
	}
	if err != nil {
		writeError(w, BadRequest("%q is no content identifier: %v", r.PathValue("cid"), err))
		return
	}
	data, err := s.Library.Block(r.Context(), c)
	switch {
	case errors.Is(err, shard.ErrNotFound):
		writeError(w, NotFound("block %s is not on this node", c))
	case err != nil:
		writeError(w, err)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(data)
	}
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
