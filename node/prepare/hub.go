package prepare

import (
	"context"
	"fmt"
)

func (s *Sources) download(_ context.Context, repo string, _ Progress) (*Model, error) {
	return nil, fmt.Errorf("hf:%s %w: downloads are not in this build yet, name a directory", repo, ErrUnknown)
}
