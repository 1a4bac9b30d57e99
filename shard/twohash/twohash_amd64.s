//go:build amd64

#include "textflag.h"

// The 64 constants of FIPS 180-4, 4.2.2, two to a word.
DATA constants<>+0(SB)/8, $0x71374491428a2f98
DATA constants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA constants<>+16(SB)/8, $0x59f111f13956c25b
DATA constants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA constants<>+32(SB)/8, $0x12835b01d807aa98
DATA constants<>+40(SB)/8, $0x550c7dc3243185be
DATA constants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA constants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA constants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA constants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA constants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA constants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA constants<>+96(SB)/8, $0xa831c66d983e5152
DATA constants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA constants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA constants<>+120(SB)/8, $0x1429296706ca6351
DATA constants<>+128(SB)/8, $0x2e1b213827b70a85
DATA constants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA constants<>+144(SB)/8, $0x766a0abb650a7354
DATA constants<>+152(SB)/8, $0x92722c8581c2c92e
DATA constants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA constants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA constants<>+176(SB)/8, $0xd6990624d192e819
DATA constants<>+184(SB)/8, $0x106aa070f40e3585
DATA constants<>+192(SB)/8, $0x1e376c0819a4c116
DATA constants<>+200(SB)/8, $0x34b0bcb52748774c
DATA constants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA constants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA constants<>+224(SB)/8, $0x78a5636f748f82ee
DATA constants<>+232(SB)/8, $0x8cc7020884c87814
DATA constants<>+240(SB)/8, $0xa4506ceb90befffa
DATA constants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL constants<>(SB), RODATA|NOPTR, $256

// Turns the bytes of four words around.
DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// The instructions hold a state as ABEF and CDGH, in two registers, and take four words of the schedule plus constants
// in X0: two rounds from its lower half, two from its upper one.

// TO_ABEF turns DCBA in x and HGFE in y into ABEF and CDGH.
#define TO_ABEF(x, y) \
	PSHUFD  $0xb1, x, x  \
	PSHUFD  $0x1b, y, y  \
	MOVOA   x, X13       \
	PALIGNR $8, y, x     \
	PBLENDW $0xf0, X13, y

#define FROM_ABEF(x, y) \
	PSHUFD  $0x1b, x, x  \
	PSHUFD  $0xb1, y, y  \
	MOVOA   x, X13       \
	PBLENDW $0xf0, y, x  \
	PALIGNR $8, X13, y

#define LOAD(at, from, m) \
	MOVOU  at(from), m \
	PSHUFB X14, m

// FOUR are four rounds with the words m.
#define FOUR(k, m, x, y) \
	MOVOA       m, X0         \
	PADDD       k(AX), X0     \
	SHA256RNDS2 X0, x, y      \
	PSHUFD      $0x0e, X0, X0 \
	SHA256RNDS2 X0, y, x

// NEXT finishes the four words behind m, in next; before are those before m.
#define NEXT(before, m, next) \
	MOVOA      m, X13          \
	PALIGNR    $4, before, X13 \
	PADDD      X13, next       \
	SHA256MSG2 m, next

// func blocks(a, b *[8]uint32, p, q *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $64-40
	MOVQ  a+0(FP), DI
	MOVQ  b+8(FP), R8
	MOVQ  p+16(FP), SI
	MOVQ  q+24(FP), R9
	MOVQ  n+32(FP), CX
	MOVOU (DI), X1
	MOVOU 16(DI), X2
	MOVOU (R8), X7
	MOVOU 16(R8), X8
	TO_ABEF(X1, X2)
	TO_ABEF(X7, X8)
	MOVOU swap<>(SB), X14
	LEAQ  constants<>(SB), AX

next:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X7, 32(SP)
	MOVOU X8, 48(SP)
	LOAD(0, SI, X3)
	FOUR(0, X3, X1, X2)
	LOAD(0, R9, X9)
	FOUR(0, X9, X7, X8)
	LOAD(16, SI, X4)
	FOUR(16, X4, X1, X2)
	SHA256MSG1 X4, X3
	LOAD(16, R9, X10)
	FOUR(16, X10, X7, X8)
	SHA256MSG1 X10, X9
	LOAD(32, SI, X5)
	FOUR(32, X5, X1, X2)
	SHA256MSG1 X5, X4
	LOAD(32, R9, X11)
	FOUR(32, X11, X7, X8)
	SHA256MSG1 X11, X10
	LOAD(48, SI, X6)
	FOUR(48, X6, X1, X2)
	NEXT(X5, X6, X3)
	SHA256MSG1 X6, X5
	LOAD(48, R9, X12)
	FOUR(48, X12, X7, X8)
	NEXT(X11, X12, X9)
	SHA256MSG1 X12, X11
	FOUR(64, X3, X1, X2)
	NEXT(X6, X3, X4)
	SHA256MSG1 X3, X6
	FOUR(64, X9, X7, X8)
	NEXT(X12, X9, X10)
	SHA256MSG1 X9, X12
	FOUR(80, X4, X1, X2)
	NEXT(X3, X4, X5)
	SHA256MSG1 X4, X3
	FOUR(80, X10, X7, X8)
	NEXT(X9, X10, X11)
	SHA256MSG1 X10, X9
	FOUR(96, X5, X1, X2)
	NEXT(X4, X5, X6)
	SHA256MSG1 X5, X4
	FOUR(96, X11, X7, X8)
	NEXT(X10, X11, X12)
	SHA256MSG1 X11, X10
	FOUR(112, X6, X1, X2)
	NEXT(X5, X6, X3)
	SHA256MSG1 X6, X5
	FOUR(112, X12, X7, X8)
	NEXT(X11, X12, X9)
	SHA256MSG1 X12, X11
	FOUR(128, X3, X1, X2)
	NEXT(X6, X3, X4)
	SHA256MSG1 X3, X6
	FOUR(128, X9, X7, X8)
	NEXT(X12, X9, X10)
	SHA256MSG1 X9, X12
	FOUR(144, X4, X1, X2)
	NEXT(X3, X4, X5)
	SHA256MSG1 X4, X3
	FOUR(144, X10, X7, X8)
	NEXT(X9, X10, X11)
	SHA256MSG1 X10, X9
	FOUR(160, X5, X1, X2)
	NEXT(X4, X5, X6)
	SHA256MSG1 X5, X4
	FOUR(160, X11, X7, X8)
	NEXT(X10, X11, X12)
	SHA256MSG1 X11, X10
	FOUR(176, X6, X1, X2)
	NEXT(X5, X6, X3)
	SHA256MSG1 X6, X5
	FOUR(176, X12, X7, X8)
	NEXT(X11, X12, X9)
	SHA256MSG1 X12, X11
	FOUR(192, X3, X1, X2)
	NEXT(X6, X3, X4)
	SHA256MSG1 X3, X6
	FOUR(192, X9, X7, X8)
	NEXT(X12, X9, X10)
	SHA256MSG1 X9, X12
	FOUR(208, X4, X1, X2)
	NEXT(X3, X4, X5)
	FOUR(208, X10, X7, X8)
	NEXT(X9, X10, X11)
	FOUR(224, X5, X1, X2)
	NEXT(X4, X5, X6)
	FOUR(224, X11, X7, X8)
	NEXT(X10, X11, X12)
	FOUR(240, X6, X1, X2)
	FOUR(240, X12, X7, X8)
	MOVOU 0(SP), X13
	PADDD X13, X1
	MOVOU 16(SP), X13
	PADDD X13, X2
	MOVOU 32(SP), X13
	PADDD X13, X7
	MOVOU 48(SP), X13
	PADDD X13, X8
	ADDQ  $64, SI
	ADDQ  $64, R9
	DECQ  CX
	JNZ   next

	FROM_ABEF(X1, X2)
	FROM_ABEF(X7, X8)
	MOVOU X1, (DI)
	MOVOU X2, 16(DI)
	MOVOU X7, (R8)
	MOVOU X8, 16(R8)
	RET

// func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET
