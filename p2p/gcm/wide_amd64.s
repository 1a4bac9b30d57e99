#include "textflag.h"

// Operands stand in the assembler's order: sources from right to left, then the destination.

// nextKey makes round key X1 of the one before it, and stores it.
#define nextKey(round, at) \
	AESKEYGENASSIST $round, X1, X2 \
	PSHUFD $0xff, X2, X2 \
	MOVO   X1, X3        \
	PSLLDQ $4, X3        \
	PXOR   X3, X1        \
	PSLLDQ $4, X3        \
	PXOR   X3, X1        \
	PSLLDQ $4, X3        \
	PXOR   X3, X1        \
	PXOR   X2, X1        \
	MOVOU  X1, at(DI)

// func expandKey(keys *[176]byte, key *byte)
TEXT ·expandKey(SB), NOSPLIT, $0-16
	MOVQ  keys+0(FP), DI
	MOVQ  key+8(FP), SI
	MOVOU (SI), X1
	MOVOU X1, (DI)
	nextKey(0x01, 16)
	nextKey(0x02, 32)
	nextKey(0x04, 48)
	nextKey(0x08, 64)
	nextKey(0x10, 80)
	nextKey(0x20, 96)
	nextKey(0x40, 112)
	nextKey(0x80, 128)
	nextKey(0x1b, 144)
	nextKey(0x36, 160)
	RET

// What is added to a counter block for the four blocks of a register, and per register and group.
DATA lanes<>+0(SB)/8, $0
DATA lanes<>+8(SB)/8, $0x0000000000000000
DATA lanes<>+16(SB)/8, $0
DATA lanes<>+24(SB)/8, $0x0000000100000000
DATA lanes<>+32(SB)/8, $0
DATA lanes<>+40(SB)/8, $0x0000000200000000
DATA lanes<>+48(SB)/8, $0
DATA lanes<>+56(SB)/8, $0x0000000300000000
GLOBL lanes<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $0
DATA four<>+8(SB)/8, $0x0000000400000000
GLOBL four<>(SB), RODATA|NOPTR, $16

// Turns the last four bytes of a block around.
DATA bigCounter<>+0(SB)/8, $0x0706050403020100
DATA bigCounter<>+8(SB)/8, $0x0c0d0e0f0b0a0908
GLOBL bigCounter<>(SB), RODATA|NOPTR, $16

// Turns a block around.
DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// The upper half is x^127 + x^126 + x^121, with the polynomial's bits turned around.
DATA poly<>+0(SB)/8, $0x0000000000000001
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

#define cryptRound(key) \
	VAESENC key, Z4, Z4 \
	VAESENC key, Z5, Z5 \
	VAESENC key, Z6, Z6 \
	VAESENC key, Z7, Z7

// func cryptGroups(dst, src *byte, n int, keys *[176]byte, counter *[16]byte)
TEXT ·cryptGroups(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ keys+24(FP), R8
	MOVQ counter+32(FP), R9

	VBROADCASTI32X4 (R8), Z16
	VBROADCASTI32X4 16(R8), Z17
	VBROADCASTI32X4 32(R8), Z18
	VBROADCASTI32X4 48(R8), Z19
	VBROADCASTI32X4 64(R8), Z20
	VBROADCASTI32X4 80(R8), Z21
	VBROADCASTI32X4 96(R8), Z22
	VBROADCASTI32X4 112(R8), Z23
	VBROADCASTI32X4 128(R8), Z24
	VBROADCASTI32X4 144(R8), Z25
	VBROADCASTI32X4 160(R8), Z26
	VBROADCASTI32X4 bigCounter<>(SB), Z30
	VBROADCASTI32X4 four<>(SB), Z31
	VBROADCASTI32X4 (R9), Z0
	VPADDD          lanes<>(SB), Z0, Z0

crypt:
	VPADDD  Z31, Z0, Z1
	VPADDD  Z31, Z1, Z2
	VPADDD  Z31, Z2, Z3
	VPSHUFB Z30, Z0, Z4
	VPSHUFB Z30, Z1, Z5
	VPSHUFB Z30, Z2, Z6
	VPSHUFB Z30, Z3, Z7
	VPADDD  Z31, Z3, Z0
	VPXORQ  Z16, Z4, Z4
	VPXORQ  Z16, Z5, Z5
	VPXORQ  Z16, Z6, Z6
	VPXORQ  Z16, Z7, Z7
	cryptRound(Z17)
	cryptRound(Z18)
	cryptRound(Z19)
	cryptRound(Z20)
	cryptRound(Z21)
	cryptRound(Z22)
	cryptRound(Z23)
	cryptRound(Z24)
	cryptRound(Z25)
	VAESENCLAST Z26, Z4, Z4
	VAESENCLAST Z26, Z5, Z5
	VAESENCLAST Z26, Z6, Z6
	VAESENCLAST Z26, Z7, Z7
	VPXORQ    (SI), Z4, Z4
	VPXORQ    64(SI), Z5, Z5
	VPXORQ    128(SI), Z6, Z6
	VPXORQ    192(SI), Z7, Z7
	VMOVDQU64 Z4, (DI)
	VMOVDQU64 Z5, 64(DI)
	VMOVDQU64 Z6, 128(DI)
	VMOVDQU64 Z7, 192(DI)
	ADDQ      $256, SI
	ADDQ      $256, DI
	DECQ      CX
	JNZ       crypt

	VMOVDQU X0, (R9)
	VPXORQ  Z16, Z16, Z16
	VPXORQ  Z17, Z17, Z17
	VPXORQ  Z18, Z18, Z18
	VZEROUPPER
	RET

// reduce folds the product of low part lo, middle mi and high hi into hi, lane by lane.
#define reduce(lo, mi, hi, t) \
	VPCLMULQDQ $0x01, lo, Z31, t \
	VPSHUFD    $0x4e, lo, lo     \
	VPTERNLOGD $0x96, t, lo, mi  \
	VPCLMULQDQ $0x01, mi, Z31, t \
	VPSHUFD    $0x4e, mi, mi     \
	VPTERNLOGD $0x96, t, mi, hi

// func mulHash(dst, a, b *byte)
TEXT ·mulHash(SB), NOSPLIT, $0-24
	MOVQ       dst+0(FP), DI
	MOVQ       a+8(FP), SI
	MOVQ       b+16(FP), DX
	VMOVDQU    (SI), X4
	VMOVDQU    (DX), X8
	VBROADCASTI32X4 poly<>(SB), Z31
	VPCLMULQDQ $0x00, Z8, Z4, Z12
	VPCLMULQDQ $0x01, Z8, Z4, Z13
	VPCLMULQDQ $0x10, Z8, Z4, Z16
	VPXORQ     Z16, Z13, Z13
	VPCLMULQDQ $0x11, Z8, Z4, Z14
	reduce(Z12, Z13, Z14, Z15)
	VMOVDQU    X14, (DI)
	VZEROUPPER
	RET

// addProduct adds data times powers to Z12, Z13, Z14.
#define addProduct(data, powers) \
	VPCLMULQDQ $0x00, powers, data, Z15 \
	VPCLMULQDQ $0x01, powers, data, Z16 \
	VPCLMULQDQ $0x10, powers, data, Z17 \
	VPCLMULQDQ $0x11, powers, data, Z18 \
	VPXORQ     Z15, Z12, Z12            \
	VPTERNLOGD $0x96, Z16, Z17, Z13     \
	VPXORQ     Z18, Z14, Z14

// func hashGroups(hash *[16]byte, powers *[256]byte, data *byte, n int)
TEXT ·hashGroups(SB), NOSPLIT, $0-32
	MOVQ hash+0(FP), DI
	MOVQ powers+8(FP), R8
	MOVQ data+16(FP), SI
	MOVQ n+24(FP), CX
	VMOVDQU64 (R8), Z8
	VMOVDQU64 64(R8), Z9
	VMOVDQU64 128(R8), Z10
	VMOVDQU64 192(R8), Z11
	VBROADCASTI32X4 reverse<>(SB), Z30
	VBROADCASTI32X4 poly<>(SB), Z31
	VMOVDQU (DI), X0

hash:
	VMOVDQU64 (SI), Z4
	VMOVDQU64 64(SI), Z5
	VMOVDQU64 128(SI), Z6
	VMOVDQU64 192(SI), Z7
	VPSHUFB   Z30, Z4, Z4
	VPSHUFB   Z30, Z5, Z5
	VPSHUFB   Z30, Z6, Z6
	VPSHUFB   Z30, Z7, Z7
	VPXORQ    Z0, Z4, Z4

	// the last three first: they do not wait for the hash so far
	VPCLMULQDQ $0x00, Z9, Z5, Z12
	VPCLMULQDQ $0x01, Z9, Z5, Z13
	VPCLMULQDQ $0x10, Z9, Z5, Z16
	VPCLMULQDQ $0x11, Z9, Z5, Z14
	VPXORQ     Z16, Z13, Z13
	addProduct(Z6, Z10)
	addProduct(Z7, Z11)
	addProduct(Z4, Z8)
	reduce(Z12, Z13, Z14, Z15)
	VEXTRACTI64X4 $1, Z14, Y15
	VPXORQ        Y15, Y14, Y14
	VEXTRACTI32X4 $1, Y14, X15
	VPXORQ        X15, X14, X0
	ADDQ $256, SI
	DECQ CX
	JNZ  hash

	VMOVDQU X0, (DI)
	VZEROUPPER
	RET
