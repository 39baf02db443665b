// What a skewed process runs in place of its vDSO's clock functions, aarch64. See stub.rs for the layout, and the x86-64
// one for what the two have in common. Links are in registers and followed by `ret`, which branch target checks let pass.

    .section .rodata.splitbrain_clock,"a",%progbits
    .balign 16
    .globl splitbrain_clock_stub_begin
    .hidden splitbrain_clock_stub_begin
    .globl splitbrain_clock_stub_end
    .hidden splitbrain_clock_stub_end

splitbrain_clock_stub_begin:
    .ascii "SBCLOCK1"
    .word splitbrain_clock_stub_end - splitbrain_clock_stub_begin
.Lsequence:
    .word 0
    .quad 0, 0, 0                               // the entries' own bytes
    .word 0, 0, 0                               // where the entries are, from the vDSO's begin; 0: there is none
    .word .Lclock_gettime - splitbrain_clock_stub_begin
    .word .Lgettimeofday - splitbrain_clock_stub_begin
    .word 0                                     // this vDSO has no time()
    .word .Ltrampoline - splitbrain_clock_stub_begin
    .word .Lapply - splitbrain_clock_stub_begin
    .word .Lslots - splitbrain_clock_stub_begin
    .word 0
.Lindex:
    .byte 0, 1, 255, 255, 2, 0, 1, 3, 255, 255, 255, 4

    .balign 16
.Lclock_gettime:                                // w0: clock, x1: timespec
    mov x2, x0
    mov x8, #113
    svc #0
    cbnz x0, 9f
    cmp w2, #11
    b.hi 9f
    adr x3, .Lindex
    ldrb w3, [x3, w2, uxtw]
    cmp w3, #255
    b.eq 9f
    movz x6, #0xca00
    movk x6, #0x3b9a, lsl #16
    ldp x4, x5, [x1]
    madd x0, x4, x6, x5
    adr x7, 1f
    b .Lskew
1:  adr x7, 2f
    b .Lsplit
2:  stp x2, x3, [x1]
    mov x0, #0
9:  ret

.Lgettimeofday:                                 // x0: timeval, x1: timezone
    mov x2, x0
    mov x8, #169
    svc #0
    cbnz x0, 9f
    cbz x2, 9f
    mov x1, x2
    movz x6, #0xca00
    movk x6, #0x3b9a, lsl #16
    mov x2, #1000
    ldp x4, x5, [x1]
    mul x5, x5, x2
    madd x0, x4, x6, x5
    mov w3, #0
    adr x7, 1f
    b .Lskew
1:  adr x7, 2f
    b .Lsplit
2:  mov x4, #1000
    udiv x3, x3, x4
    stp x2, x3, [x1]
    mov x0, #0
9:  ret

// x0: nanoseconds, x6: a second -> x2: seconds, x3: nanoseconds of the second, never negative. Returns to x7.
.Lsplit:
    sdiv x2, x0, x6
    msub x3, x2, x6, x0
    tbz x3, #63, 1f
    add x3, x3, x6
    sub x2, x2, #1
1:  ret x7

// x0: the true time, w3: index -> x0: the skewed one. Returns to x7; keeps x1 and x6.
.Lskew:
    mov x9, x0
    mov w10, #40
    mov w17, #200
    adr x11, .Lsequence
1:  ldar w12, [x11]
    and w13, w12, #1
    adr x15, .Lslots
    umaddl x15, w13, w17, x15
    umaddl x15, w3, w10, x15
    ldp x2, x4, [x15]                           // drift so far, base
    ldp x5, x13, [x15, #16]                     // gain, swing
    ldr x14, [x15, #32]                         // strobe
    dmb ishld
    ldr w16, [x11]
    cmp w16, w12
    b.ne 1b
    sub x4, x9, x4
    cbz x14, 2f
    sdiv x16, x4, x14
    tst x16, #1
    csel x13, xzr, x13, ne
2:  mul x16, x4, x5
    smulh x17, x4, x5
    extr x16, x17, x16, #32
    add x0, x9, x16
    add x0, x0, x2
    add x0, x0, x13
    ret x7

// For calls from outside: x9: what to call.
.Ltrampoline:
    blr x9
    brk #0

// The arithmetic alone, for tests. x0: the true time, x1: index.
.Lapply:
    mov w3, w1
    adr x7, 1f
    b .Lskew
1:  ret

    .balign 8
.Lslots:
    .zero 400
splitbrain_clock_stub_end:
    .text
