#!/bin/sh
# Runs the peers' programs and shoal in turn on this machine and prints ratios.
#
#   docs/benchmarks/run-cpu.sh [threads] [rounds] [largest number of multiply-adds of a product]
#
# Needs Go, gcc, and the Debian packages libopenblas-dev and libdnnl-dev; the training steps also python3-torch. A peer
# that is not installed is left out. With one thread all figures are processor time, with more wall time: then the
# machine must be quiet. OpenBLAS of Debian 12 does not know newer processors and takes AVX2 kernels, so its core type
# is set here; override it with OPENBLAS_CORETYPE.
set -eu
python=${PYTHON:-/usr/bin/python3} # the one that Debian packages belong to
threads=${1:-1} rounds=${2:-3} most=${3:-0}
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if grep -qw avx512f /proc/cpuinfo; then best=Cooperlake; else best=Haswell; fi
export OPENBLAS_CORETYPE="${OPENBLAS_CORETYPE:-$best}" OPENBLAS_NUM_THREADS="$threads" OMP_NUM_THREADS="$threads" ATEN_CPU_CAPABILITY=avx512

(cd "$root" && CGO_ENABLED=0 go build -o "$work/measure" ./kernels/cpubench/measure)
gcc -O2 -DPEER_OPENBLAS "$here/peers/gemm.c" -o "$work/openblas" -lopenblas 2>/dev/null || echo "no OpenBLAS: left out"
gcc -O2 -DPEER_ONEDNN "$here/peers/gemm.c" -o "$work/onednn" -ldnnl -fopenmp 2>/dev/null || echo "no oneDNN: left out"

peer_most=$most
[ "$most" = 0 ] && peer_most=1e30
for round in $(seq "$rounds"); do
	"$work/measure" -only peak,gemm,bf16 -least 20ms -most "$most" -workers "$threads" >"$work/shoal.$round"
	"$work/measure" -kernels avx2 -only gemm -least 20ms -most "$most" -workers "$threads" >"$work/avx2.$round" || true
	[ -x "$work/openblas" ] && "$work/openblas" "$threads" "$peer_most" >"$work/openblas.$round"
	[ -x "$work/openblas" ] && OPENBLAS_CORETYPE=Haswell "$work/openblas" "$threads" "$peer_most" >"$work/haswell.$round"
	[ -x "$work/onednn" ] && "$work/onednn" "$threads" "$peer_most" >"$work/onednn.$round"
done

# mean FILE TYPE prints the geometric mean of a run's products of a type; median PROGRAM TYPE that of the rounds.
mean() { awk -v t="$2" '$1 == "gemm" && $4 == t { s += log($5); n++ } END { if (n) print exp(s / n) }' "$1"; }
median() {
	for round in $(seq "$rounds"); do
		[ -e "$work/$1.$round" ] && mean "$work/$1.$round" "$2"
	done | sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'
}
ratio() { # what, value, of what
	[ -n "$2" ] && [ -n "$3" ] && awk -v w="$1" -v a="$2" -v b="$3" 'BEGIN { printf "%-34s %8.1f / %8.1f = %.3f\n", w, a, b, a / b }'
	return 0
}
shoal=$(median shoal f32)
peak=$(awk '$1 == "peak" && $2 == "f32" { print $3 }' "$work"/shoal.* | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
echo "threads $threads, medians of $rounds rounds, geometric means of the reference shapes in GFLOP/s"
ratio "f32 products / peak" "$shoal" "$peak"
ratio "f32 products / OpenBLAS" "$shoal" "$(median openblas f32)"
ratio "f32 products / oneDNN" "$shoal" "$(median onednn f32)"
ratio "AVX2 products / OpenBLAS Haswell" "$(median avx2 f32)" "$(median haswell f32)"
ratio "bf16 products / f32 products" "$(median shoal bf16)" "$shoal"
"$work/measure" -only attention,memory -workers "$threads"

if "$python" -c 'import torch' 2>/dev/null; then
	for step in "llama15m 4 256" "gpt2 4 64" "gpt2 4 256"; do
		"$python" "$here/peers/step.py" $step 4 # split into words on purpose
	done
else
	echo "no PyTorch: its training steps are left out"
fi
