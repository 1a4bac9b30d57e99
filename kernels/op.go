package kernels

// Op is the operation of a Cmd.
type Op uint16
