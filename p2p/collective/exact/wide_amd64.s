#include "textflag.h"

// Operands stand in the assembler's order: sources from right to left, then the destination.

// func addAVX2(dst, a, b *float32, n int): n is a multiple of 8
TEXT ·addAVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), BX
	MOVQ b+16(FP), SI
	MOVQ n+24(FP), CX
	SHLQ $2, CX // bytes
	XORQ AX, AX
	MOVQ CX, DX
	ANDQ $-128, DX
	JMP  wideTest

wideLoop:
	VMOVUPS (BX)(AX*1), Y0
	VMOVUPS 32(BX)(AX*1), Y1
	VMOVUPS 64(BX)(AX*1), Y2
	VMOVUPS 96(BX)(AX*1), Y3
	VADDPS  (SI)(AX*1), Y0, Y0
	VADDPS  32(SI)(AX*1), Y1, Y1
	VADDPS  64(SI)(AX*1), Y2, Y2
	VADDPS  96(SI)(AX*1), Y3, Y3
	VMOVUPS Y0, (DI)(AX*1)
	VMOVUPS Y1, 32(DI)(AX*1)
	VMOVUPS Y2, 64(DI)(AX*1)
	VMOVUPS Y3, 96(DI)(AX*1)
	ADDQ    $128, AX

wideTest:
	CMPQ AX, DX
	JLT  wideLoop
	JMP  test

loop:
	VMOVUPS (BX)(AX*1), Y0
	VADDPS  (SI)(AX*1), Y0, Y0
	VMOVUPS Y0, (DI)(AX*1)
	ADDQ    $32, AX

test:
	CMPQ AX, CX
	JLT  loop
	VZEROUPPER
	RET

// func subtractAVX2(dst, src *float32, n int): n is a multiple of 8
TEXT ·subtractAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	JMP  test

loop:
	VMOVUPS (DI), Y0
	VSUBPS  (SI), Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ    $32, DI
	ADDQ    $32, SI
	SUBQ    $8, CX

test:
	TESTQ CX, CX
	JGT   loop
	VZEROUPPER
	RET

// func squaresAVX2(lane *[16]float64, x *float32, n int): n is a multiple of 16
TEXT ·squaresAVX2(SB), NOSPLIT, $0-24
	MOVQ    lane+0(FP), DI
	MOVQ    x+8(FP), SI
	MOVQ    n+16(FP), CX
	VMOVUPD (DI), Y0
	VMOVUPD 32(DI), Y1
	VMOVUPD 64(DI), Y2
	VMOVUPD 96(DI), Y3
	JMP     test

loop:
	VCVTPS2PD   (SI), Y4
	VCVTPS2PD   16(SI), Y5
	VCVTPS2PD   32(SI), Y6
	VCVTPS2PD   48(SI), Y7
	VFMADD231PD Y4, Y4, Y0
	VFMADD231PD Y5, Y5, Y1
	VFMADD231PD Y6, Y6, Y2
	VFMADD231PD Y7, Y7, Y3
	ADDQ        $64, SI
	SUBQ        $16, CX

test:
	TESTQ CX, CX
	JGT   loop
	VMOVUPD Y0, (DI)
	VMOVUPD Y1, 32(DI)
	VMOVUPD Y2, 64(DI)
	VMOVUPD Y3, 96(DI)
	VZEROUPPER
	RET

DATA low29<>+0(SB)/4, $0x1fffffff
GLOBL low29<>(SB), RODATA|NOPTR, $4

DATA middle<>+0(SB)/4, $0x0ffffffc // 2^28 - 4
GLOBL middle<>(SB), RODATA|NOPTR, $4

DATA eight<>+0(SB)/4, $8
GLOBL eight<>(SB), RODATA|NOPTR, $4

DATA one<>+0(SB)/4, $1
GLOBL one<>(SB), RODATA|NOPTR, $4

DATA small<>+0(SB)/4, $0x21800000 // bits of 2^-60
GLOBL small<>(SB), RODATA|NOPTR, $4

DATA unsigned<>+0(SB)/4, $0x7fffffff
GLOBL unsigned<>(SB), RODATA|NOPTR, $4

// func divideAVX2(dst, sum *float32, n int, w, inv float64): n is a multiple of 8, inv is 1/w
// A product with 1/w is within four units of the last place of the rounded quotient. So both round to the same float32, unless
// the bits that rounding drops are as close as that to a half, or the quotient may be subnormal: then eight are divided.
TEXT ·divideAVX2(SB), NOSPLIT, $0-40
	MOVQ         dst+0(FP), DI
	MOVQ         sum+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSD w+24(FP), Y15
	VBROADCASTSD inv+32(FP), Y14
	VPBROADCASTD low29<>(SB), Y13
	VPBROADCASTD middle<>(SB), Y12
	VPBROADCASTD eight<>(SB), Y11
	VPBROADCASTD one<>(SB), Y10
	VPBROADCASTD small<>(SB), Y9
	VPBROADCASTD unsigned<>(SB), Y8
	JMP          test

loop:
	VCVTPS2PD  (SI), Y0
	VCVTPS2PD  16(SI), Y1
	VMULPD     Y14, Y0, Y2
	VMULPD     Y14, Y1, Y3
	VSHUFPS    $0x88, Y3, Y2, Y4 // lower halves, in some order
	VPAND      Y13, Y4, Y4
	VPSUBD     Y12, Y4, Y4
	VPMINUD    Y11, Y4, Y5
	VPCMPEQD   Y5, Y4, Y4        // 8 or less, unsigned
	VPAND      (SI), Y8, Y6
	VPSUBD     Y10, Y6, Y6       // zero is no small number
	VPMINUD    Y9, Y6, Y5
	VPCMPEQD   Y5, Y6, Y6
	VPOR       Y4, Y6, Y6
	VPTEST     Y6, Y6
	JNZ        divide

store:
	VCVTPD2PSY Y2, X2
	VCVTPD2PSY Y3, X3
	VMOVUPS    X2, (DI)
	VMOVUPS    X3, 16(DI)
	ADDQ       $32, SI
	ADDQ       $32, DI
	SUBQ       $8, CX

test:
	TESTQ CX, CX
	JGT   loop
	VZEROUPPER
	RET

divide:
	VDIVPD Y15, Y0, Y2
	VDIVPD Y15, Y1, Y3
	JMP    store

DATA unpack<>+0(SB)/8, $0x0000000400000000
DATA unpack<>+8(SB)/8, $0x0000000500000001
DATA unpack<>+16(SB)/8, $0x0000000600000002
DATA unpack<>+24(SB)/8, $0x0000000700000003
GLOBL unpack<>(SB), RODATA|NOPTR, $32

// func encode8AVX2(dst *byte, src *float32, blocks int): blocks of 128 elements, see Encode8
TEXT ·encode8AVX2(SB), NOSPLIT, $0-24
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         blocks+16(FP), CX
	MOVL         $0x7fffffff, AX
	MOVQ         AX, X15
	VPBROADCASTD X15, Y15
	MOVL         $0x42fe0000, AX // 127
	MOVQ         AX, X14
	VMOVDQU      unpack<>(SB), Y13
	JMP          test

block:
	// the largest magnitude: as bits, so that what is not finite is largest
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	XORQ  DX, DX

magnitude:
	VPAND   (SI)(DX*1), Y15, Y2
	VPAND   32(SI)(DX*1), Y15, Y3
	VPAND   64(SI)(DX*1), Y15, Y4
	VPAND   96(SI)(DX*1), Y15, Y5
	VPMAXSD Y2, Y0, Y0
	VPMAXSD Y3, Y1, Y1
	VPMAXSD Y4, Y0, Y0
	VPMAXSD Y5, Y1, Y1
	ADDQ    $128, DX
	CMPQ    DX, $512
	JLT     magnitude
	VPMAXSD Y1, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPMAXSD X1, X0, X0
	VPSHUFD $0x4e, X0, X1
	VPMAXSD X1, X0, X0
	VPSHUFD $0xb1, X0, X1
	VPMAXSD X1, X0, X0
	VMOVD   X0, AX

	XORL BX, BX
	CMPL AX, $0x0d800000
	JLT  flat // too small: zero
	MOVL $0x7fc00000, BX
	CMPL AX, $0x7f800000
	JGE  flat // not finite

	VDIVSS       X14, X0, X1 // max / 127
	VMOVSS       X1, (DI)
	VDIVSS       X0, X14, X1 // 127 / max
	VBROADCASTSS X1, Y1
	XORQ         DX, DX
	ADDQ         $4, DI

quantize:
	VMULPS    (SI), Y1, Y2
	VMULPS    32(SI), Y1, Y3
	VMULPS    64(SI), Y1, Y4
	VMULPS    96(SI), Y1, Y5
	VCVTPS2DQ Y2, Y2
	VCVTPS2DQ Y3, Y3
	VCVTPS2DQ Y4, Y4
	VCVTPS2DQ Y5, Y5
	VPACKSSDW Y3, Y2, Y2
	VPACKSSDW Y5, Y4, Y4
	VPACKSSWB Y4, Y2, Y2
	VPERMD    Y2, Y13, Y2
	VMOVDQU   Y2, (DI)(DX*1)
	ADDQ      $128, SI
	ADDQ      $32, DX
	CMPQ      DX, $128
	JLT       quantize
	ADDQ      $128, DI
	DECQ      CX
	JMP       test

flat:
	MOVL    BX, (DI)
	VPXOR   Y2, Y2, Y2
	VMOVDQU Y2, 4(DI)
	VMOVDQU Y2, 36(DI)
	VMOVDQU Y2, 68(DI)
	VMOVDQU Y2, 100(DI)
	ADDQ    $132, DI
	ADDQ    $512, SI
	DECQ    CX

test:
	TESTQ CX, CX
	JGT   block
	VZEROUPPER
	RET

// func decode8AVX2(dst *float32, src *byte, blocks int)
TEXT ·decode8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX
	JMP  test

block:
	VBROADCASTSS (SI), Y15
	ADDQ         $4, SI
	MOVQ         $4, DX

loop:
	VPMOVSXBD (SI), Y0
	VPMOVSXBD 8(SI), Y1
	VPMOVSXBD 16(SI), Y2
	VPMOVSXBD 24(SI), Y3
	VCVTDQ2PS Y0, Y0
	VCVTDQ2PS Y1, Y1
	VCVTDQ2PS Y2, Y2
	VCVTDQ2PS Y3, Y3
	VMULPS    Y15, Y0, Y0
	VMULPS    Y15, Y1, Y1
	VMULPS    Y15, Y2, Y2
	VMULPS    Y15, Y3, Y3
	VMOVUPS   Y0, (DI)
	VMOVUPS   Y1, 32(DI)
	VMOVUPS   Y2, 64(DI)
	VMOVUPS   Y3, 96(DI)
	ADDQ      $32, SI
	ADDQ      $128, DI
	DECQ      DX
	JNZ       loop
	DECQ      CX

test:
	TESTQ CX, CX
	JGT   block
	VZEROUPPER
	RET

// func stream8AVX2(dst *float32, src *byte, blocks int): past the caches; dst is a multiple of 32
TEXT ·stream8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX
	JMP  test

block:
	VBROADCASTSS (SI), Y15
	ADDQ         $4, SI
	MOVQ         $4, DX

loop:
	VPMOVSXBD (SI), Y0
	VPMOVSXBD 8(SI), Y1
	VPMOVSXBD 16(SI), Y2
	VPMOVSXBD 24(SI), Y3
	VCVTDQ2PS Y0, Y0
	VCVTDQ2PS Y1, Y1
	VCVTDQ2PS Y2, Y2
	VCVTDQ2PS Y3, Y3
	VMULPS    Y15, Y0, Y0
	VMULPS    Y15, Y1, Y1
	VMULPS    Y15, Y2, Y2
	VMULPS    Y15, Y3, Y3
	VMOVNTPS  Y0, (DI)
	VMOVNTPS  Y1, 32(DI)
	VMOVNTPS  Y2, 64(DI)
	VMOVNTPS  Y3, 96(DI)
	ADDQ      $32, SI
	ADDQ      $128, DI
	DECQ      DX
	JNZ       loop
	DECQ      CX

test:
	TESTQ CX, CX
	JGT   block
	SFENCE
	VZEROUPPER
	RET

// func addDecoded8AVX2(dst *float32, src *byte, blocks int)
TEXT ·addDecoded8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX
	JMP  test

block:
	VBROADCASTSS (SI), Y15
	ADDQ         $4, SI
	MOVQ         $4, DX

loop:
	VPMOVSXBD (SI), Y0
	VPMOVSXBD 8(SI), Y1
	VPMOVSXBD 16(SI), Y2
	VPMOVSXBD 24(SI), Y3
	VCVTDQ2PS Y0, Y0
	VCVTDQ2PS Y1, Y1
	VCVTDQ2PS Y2, Y2
	VCVTDQ2PS Y3, Y3
	VMULPS    Y15, Y0, Y0
	VMULPS    Y15, Y1, Y1
	VMULPS    Y15, Y2, Y2
	VMULPS    Y15, Y3, Y3
	VMOVUPS   (DI), Y4
	VMOVUPS   32(DI), Y5
	VMOVUPS   64(DI), Y6
	VMOVUPS   96(DI), Y7
	VADDPS    Y0, Y4, Y4
	VADDPS    Y1, Y5, Y5
	VADDPS    Y2, Y6, Y6
	VADDPS    Y3, Y7, Y7
	VMOVUPS   Y4, (DI)
	VMOVUPS   Y5, 32(DI)
	VMOVUPS   Y6, 64(DI)
	VMOVUPS   Y7, 96(DI)
	ADDQ      $32, SI
	ADDQ      $128, DI
	DECQ      DX
	JNZ       loop
	DECQ      CX

test:
	TESTQ CX, CX
	JGT   block
	VZEROUPPER
	RET

DATA half16<>+0(SB)/4, $0x7fff
GLOBL half16<>(SB), RODATA|NOPTR, $4

DATA one16<>+0(SB)/4, $1
GLOBL one16<>(SB), RODATA|NOPTR, $4

DATA nan16<>+0(SB)/4, $0x7fc0
GLOBL nan16<>(SB), RODATA|NOPTR, $4

// func encode16AVX2(dst *byte, src *float32, n int)
// The upper half of x + 0x7fff + (bit 16 of x), of a NaN 0x7fc0. n is a multiple of 16.
TEXT ·encode16AVX2(SB), NOSPLIT, $0-24
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         n+16(FP), CX
	VPBROADCASTD half16<>(SB), Y13
	VPBROADCASTD one16<>(SB), Y14
	VPBROADCASTD nan16<>(SB), Y15
	JMP          test

loop:
	VMOVDQU   (SI), Y0
	VMOVDQU   32(SI), Y1
	VPSRLD    $16, Y0, Y2
	VPSRLD    $16, Y1, Y3
	VPAND     Y14, Y2, Y2
	VPAND     Y14, Y3, Y3
	VPADDD    Y13, Y2, Y2
	VPADDD    Y13, Y3, Y3
	VPADDD    Y0, Y2, Y2
	VPADDD    Y1, Y3, Y3
	VPSRLD    $16, Y2, Y2
	VPSRLD    $16, Y3, Y3
	VCMPPS    $3, Y0, Y0, Y4
	VCMPPS    $3, Y1, Y1, Y5
	VPBLENDVB Y4, Y15, Y2, Y2
	VPBLENDVB Y5, Y15, Y3, Y3
	VPACKUSDW Y3, Y2, Y2
	VPERMQ    $0xd8, Y2, Y2
	VMOVDQU   Y2, (DI)
	ADDQ      $64, SI
	ADDQ      $32, DI
	SUBQ      $16, CX

test:
	TESTQ CX, CX
	JGT   loop
	VZEROUPPER
	RET

// func decode16AVX2(dst *float32, src *byte, n int)
// n is a multiple of 16.
TEXT ·decode16AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	JMP  test

loop:
	VPMOVZXWD (SI), Y0
	VPMOVZXWD 16(SI), Y1
	VPSLLD    $16, Y0, Y0
	VPSLLD    $16, Y1, Y1
	VMOVDQU   Y0, (DI)
	VMOVDQU   Y1, 32(DI)
	ADDQ      $32, SI
	ADDQ      $64, DI
	SUBQ      $16, CX

test:
	TESTQ CX, CX
	JGT   loop
	VZEROUPPER
	RET

// func addDecoded16AVX2(dst *float32, src *byte, n int)
// n is a multiple of 16.
TEXT ·addDecoded16AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	JMP  test

loop:
	VPMOVZXWD (SI), Y0
	VPMOVZXWD 16(SI), Y1
	VPSLLD    $16, Y0, Y0
	VPSLLD    $16, Y1, Y1
	VADDPS    (DI), Y0, Y0
	VADDPS    32(DI), Y1, Y1
	VMOVUPS   Y0, (DI)
	VMOVUPS   Y1, 32(DI)
	ADDQ      $32, SI
	ADDQ      $64, DI
	SUBQ      $16, CX

test:
	TESTQ CX, CX
	JGT   loop
	VZEROUPPER
	RET
