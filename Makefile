# shoal: `make demo` shows the main job, `make test` passes the tests. Both need only Go.
GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build demo test race lint bench generate clean

build: ## the one binary
	$(GO) build -trimpath -o bin/shoal ./cmd/shoal

demo: ## four nodes fine-tune a small model, one is killed in mid-run
	@echo "building shoal…"; start=$$(date +%s); $(GO) build -trimpath -o bin/shoal ./cmd/shoal && echo "built in $$(( $$(date +%s) - start )) s"
	@bin/shoal demo

test: ## everything; suites that cannot run here say why
	$(GO) test -timeout 9m ./...

race: ## the protocol rooms under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 9m ./p2p/... ./node/... ./shard/...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...

bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./kernels/... ./p2p/... ./shard/...

generate:
	cd kernels/gen && $(GO) run . -out ../cpu

clean:
	rm -rf bin
