# shoal: `make demo` shows the main job, `make test` passes the tests. Both need only Go.
GO ?= go
export CGO_ENABLED ?= 0
SHELL := bash

.PHONY: build build-cuda gpu-check fatbin demo test test-cuda test-barriers test-net test-net-short soak soak-net race lint bench bench-cpu generate clean

build: ## the one binary
	$(GO) build -trimpath -o bin/shoal ./cmd/shoal

demo: ## four nodes fine-tune a small model, one is killed in mid-run
	@echo "building shoal…"; start=$$(date +%s); $(GO) build -trimpath -o bin/shoal ./cmd/shoal && echo "built in $$(( $$(date +%s) - start )) s"
	@bin/shoal demo

# Prints a line per package, every skipped test with its reason, and what failed with its output.
report = awk '\
	/^(ok|FAIL|panic:)/ || /^ *--- FAIL/ { print; fflush() } \
	/^ +[^ ]+_test\.go:[0-9]+: / { why = $$0; sub(/^ +[^ ]+ /, "", why) } \
	/^ *--- SKIP/ { sub(/^ */, ""); print $$0 ": " why; fflush() }'

test: ## everything; tests that cannot run here say why
	@mkdir -p build
	@set -o pipefail; $(GO) test -timeout 9m -v ./... 2>&1 | tee build/test.log | $(report) || \
		{ echo; grep -v '^=== ' build/test.log | grep -B40 -E '^ *--- FAIL|^panic:|^FAIL'; echo "the whole output is in build/test.log"; exit 1; }
	@if command -v g++ >/dev/null && command -v gcc >/dev/null; then $(MAKE) -s test-cuda; else echo "CUDA backend: not tested, no C++ compiler"; fi

# Each command by itself: packages that run at the same time would take each other's processor.
CUDA_TEST = CGO_ENABLED=1 $(GO) test -tags cuda,cudaemu -p 1 -timeout 9m
test-cuda: ## the CUDA backend: kernels on an emulator, curves, the binary; needs a C and a C++ compiler, no GPU
	@set -o pipefail; { $(CUDA_TEST) -short -v ./kernels/cuda/... && $(CUDA_TEST) -v ./trainer/gputest && \
		$(CUDA_TEST) -v -run 'CUDA|Driver' ./cmd/shoal && $(CUDA_TEST) -v -run MixedShort ./cmd/shoal/e2e; } 2>&1 | $(report)

test-barriers: ## each barrier of the kernels taken away: somebody must notice
	$(CUDA_TEST) -run EveryBarrier -v ./kernels/cuda

test-net: ## real daemons behind NATs, on a laboratory network of this machine; needs root and netlab (set NETLAB to its path)
	SHOAL_NETLAB=1 $(GO) test -count=1 -timeout 9m -v ./p2p/nettest

test-net-short: ## what of it takes less than three minutes
	@set -o pipefail; SHOAL_NETLAB=1 SHOAL_NETLAB_WAIT=8 $(GO) test -count=1 -timeout 9m -v -skip 'TwentyKills' ./p2p/nettest 2>&1 | $(report)

soak-net: ## ten minutes of churn, garbage and changing NATs around a job that trains; needs what test-net needs
	SHOAL_NETLAB=1 SHOAL_SOAK=$${SHOAL_SOAK:-10m} $(GO) test -count=1 -timeout 20m -v -run Soak ./p2p/nettest

soak: soak-net ## that, and the simulated faults at length, two hours or so
	SHOAL_FAULTS=$${SHOAL_FAULTS:-30} $(GO) test -timeout 4h -count=1 -v -run ProcessFaults ./cmd/shoal/e2e
	$(GO) test -timeout 5h -count=1 ./node/coord -args -matrix 1000 -seeds 10000 -failing 1000

race: ## the protocol rooms under the race detector (needs a C compiler); the simulator is one goroutine
	CGO_ENABLED=1 $(GO) test -race -timeout 9m $$($(GO) list ./p2p/... ./node/... ./shard/... | grep -v /node/sim)

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...

bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./kernels/... ./p2p/... ./shard/...

bench-cpu: ## shoal beside its peers on this processor: ROWS="openblas llama" for some, ARGS for flags
	$(GO) run ./kernels/cpubench/versus $(ARGS) $(ROWS)

generate:
	cd kernels/gen && $(GO) run . -out ../cpu

NVCC ?= nvcc
fatbin: ## the GPU's machine code, after a change of a kernel; needs nvcc of CUDA 11.8 or newer
	cd kernels/cuda/fatbin && $(GO) run ./build -nvcc "$(NVCC)"

build-cuda: ## the binary that also serves GPUs; needs a C compiler, neither CUDA's headers nor its libraries
	CGO_ENABLED=1 $(GO) build -tags cuda -trimpath -o bin/shoal ./cmd/shoal

# On a machine without Go the programs come from one with it: copy build/gpu there, with kernels/cuda.
gpu-check: ## on a machine with a GPU: correctness, memory checker, speed beside PyTorch; goes on where it was cut off
	@if command -v $(GO) >/dev/null; then mkdir -p build/gpu && $(GO) build -trimpath -o build/gpu/gpucheck ./kernels/cuda/gpucheck && \
		CGO_ENABLED=1 $(GO) build -tags cuda -trimpath -o build/gpu/shoal ./cmd/shoal && \
		CGO_ENABLED=1 $(GO) test -c -tags cuda -trimpath -o build/gpu/cuda.test ./kernels/cuda; fi
	build/gpu/gpucheck $(ARGS)

clean:
	rm -rf bin build
