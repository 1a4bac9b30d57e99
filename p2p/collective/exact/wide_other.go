//go:build !amd64

package exact

func wideAdd(dst, a, b []float32) int                { return 0 }
func wideSubtract(dst, src []float32) int            { return 0 }
func wideSquares(lane *[16]float64, x []float32) int { return 0 }
func wideDivide(dst, sum []float32, w float64) int   { return 0 }
func wideEncode8(dst []byte, src []float32) int      { return 0 }
func wideDecode8(dst []float32, src []byte) int      { return 0 }
func wideStream8(dst []float32, src []byte) int      { return 0 }
func wideAddDecoded8(dst []float32, src []byte) int  { return 0 }

func wideEncode16(dst []byte, src []float32) int     { return 0 }
func wideDecode16(dst []float32, src []byte) int     { return 0 }
func wideAddDecoded16(dst []float32, src []byte) int { return 0 }
