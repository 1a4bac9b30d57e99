package cpu

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// wireGrain is how many elements make a task: whole blocks of every form.
const wireGrain = 128 * dtype.WireBlock

func encodeWire(_ *Device, x *call) error {
	x.wire(x.t[1].cols, func(x *call, lo, hi int) {
		form := dtype.Wire(x.cmd.I[0])
		form.Encode(codes(x.cmd.T[0])[form.Bytes(lo):form.Bytes(hi)], x.t[1].p[lo:hi])
	})
	return nil
}

func decodeWire(_ *Device, x *call) error {
	x.wire(x.t[0].cols, func(x *call, lo, hi int) {
		form := dtype.Wire(x.cmd.I[0])
		form.Decode(x.t[0].p[lo:hi], codes(x.cmd.T[1])[form.Bytes(lo):form.Bytes(hi)])
	})
	return nil
}

// wire runs a task for each part of n elements that is coded by itself.
func (x *call) wire(n int, part func(x *call, lo, hi int)) {
	x.part, x.total = part, n
	x.tasks(parts(n, wireGrain), func(x *call, _ *worker, i int) {
		x.part(x, i*wireGrain, min(x.total, (i+1)*wireGrain))
	})
}
