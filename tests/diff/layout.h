/*
 * layout.h - addresses that a test case sees, the same natively and in the guest; read by C and assembly.
 */
#ifndef RINGER_DIFF_LAYOUT_H
#define RINGER_DIFF_LAYOUT_H

/* Code under test: readable, writable, executable. The page after it is not mapped. */
#define DIFF_CODE 0x10ab3000
#define DIFF_CODE_SIZE 0x3000
/* Where code under test goes when it is done. */
#define DIFF_STUB 0x18c45000
/* The harness's own page natively; absent in the guest. */
#define DIFF_CTX 0x5a1d7000
#define DIFF_CTX_SIZE 0x6000

#define DIFF_CS64 0x33
#define DIFF_CS32 0x23
#define DIFF_SS 0x2b
/* In 32-bit mode FS and GS are TLS descriptors with these bases. */
#define DIFF_FS32 0x63
#define DIFF_GS32 0x6b

/* Offsets in struct native_ctx. */
#define CTX_GPR (DIFF_CTX + 0x000)
#define CTX_RIP (DIFF_CTX + 0x080)
#define CTX_RFLAGS (DIFF_CTX + 0x088)
#define CTX_FAR (DIFF_CTX + 0x090)
#define CTX_FS_BASE (DIFF_CTX + 0x098)
#define CTX_GS_BASE (DIFF_CTX + 0x0a0)
#define CTX_SEL (DIFF_CTX + 0x0a8)
#define CTX_TAIL (DIFF_CTX + 0x0b0)
#define CTX_HOST_RSP (DIFF_CTX + 0x0b8)
#define CTX_HOST_FS (DIFF_CTX + 0x0c0)
#define CTX_HOST_GS (DIFF_CTX + 0x0c8)
#define CTX_XCR0 (DIFF_CTX + 0x0d0)
#define CTX_MXCSR (DIFF_CTX + 0x0d8)
#define CTX_MODE32 (DIFF_CTX + 0x0e0)
#define CTX_OUT_GPR (DIFF_CTX + 0x100)
#define CTX_OUT_RFLAGS (DIFF_CTX + 0x180)
#define CTX_OUT_FS_BASE (DIFF_CTX + 0x188)
#define CTX_OUT_GS_BASE (DIFF_CTX + 0x190)
#define CTX_OUT_SEL (DIFF_CTX + 0x198)
#define CTX_STACK_TOP (DIFF_CTX + 0x300)
#define CTX_IN_FPU (DIFF_CTX + 0x400)
#define CTX_OUT_FPU (DIFF_CTX + 0x2000)

#endif
