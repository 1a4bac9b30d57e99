package cuda

// Found is what the driver says of this machine.
type Found struct {
	Driver string // "12.4": the newest CUDA that the driver serves
	GPUs   []GPU
	Lt     string // version of cuBLASLt, or empty
	LtWhy  string // why there is none: products then take our own kernels
}

// GPU is one device.
type GPU struct {
	Index           int
	Name, Bus       string
	Bytes           int64
	Capability      string // "9.0"
	Multiprocessors int
	Why             string // why it cannot be used, or empty
}
