# What a skewed process runs in place of its vDSO's clock functions, x86-64. See stub.rs for the layout.
#
# Position-independent, and writes no memory but the caller's and its own stack. Each function makes the real system call
# and hands what it got to `skew`, which reads one of two slots of data words. The sequence number's lowest bit says which
# slot; the other one is written before the number is raised, so a reader never waits for a writer, not even for one that
# died: it only reads again when the number has changed meanwhile.
#
# Nothing here calls anything of its own (links are in registers): no address of this code stays on a stack behind it.

    .section .rodata.splitbrain_clock,"a",@progbits
    .balign 16
    .globl splitbrain_clock_stub_begin
    .hidden splitbrain_clock_stub_begin
    .globl splitbrain_clock_stub_end
    .hidden splitbrain_clock_stub_end

splitbrain_clock_stub_begin:
    .ascii "SBCLOCK1"
    .long splitbrain_clock_stub_end - splitbrain_clock_stub_begin
.Lsequence:
    .long 0
    .quad 0, 0, 0                               # the entries' own bytes
    .long 0, 0, 0                               # where the entries are, from the vDSO's begin; 0: there is none
    .long .Lclock_gettime - splitbrain_clock_stub_begin
    .long .Lgettimeofday - splitbrain_clock_stub_begin
    .long .Ltime - splitbrain_clock_stub_begin
    .long .Ltrampoline - splitbrain_clock_stub_begin
    .long .Lapply - splitbrain_clock_stub_begin
    .long .Lslots - splitbrain_clock_stub_begin
    .long 0
# By the clock's number: realtime, monotonic, (cpu, cpu), raw, coarse realtime, coarse monotonic, boottime, (...), tai.
.Lindex:
    .byte 0, 1, 255, 255, 2, 0, 1, 3, 255, 255, 255, 4

    .balign 16
.Lclock_gettime:                                # edi: clock, rsi: timespec
    movl $228, %eax
    syscall
    testl %eax, %eax
    jnz 9f
    cmpl $11, %edi
    ja 9f
    movl %edi, %edi
    leaq .Lindex(%rip), %rdx
    movzbl (%rdx,%rdi), %edi
    testb %dil, %dil
    js 9f
    imulq $1000000000, (%rsi), %rax
    addq 8(%rsi), %rax
    leaq 1f(%rip), %r8
    jmp .Lskew
1:  leaq 2f(%rip), %r8
    jmp .Lsplit
2:  movq %rax, (%rsi)
    movq %rdx, 8(%rsi)
    xorl %eax, %eax
9:  ret

.Lgettimeofday:                                 # rdi: timeval, rsi: timezone
    movl $96, %eax
    syscall
    testl %eax, %eax
    jnz 9f
    testq %rdi, %rdi
    jz 9f
    movq %rdi, %rsi
    imulq $1000000, (%rsi), %rax
    addq 8(%rsi), %rax
    imulq $1000, %rax, %rax
    xorl %edi, %edi
    leaq 1f(%rip), %r8
    jmp .Lskew
1:  leaq 2f(%rip), %r8
    jmp .Lsplit
2:  movq %rax, (%rsi)
    movq %rdx, %rax
    xorl %edx, %edx
    movl $1000, %ecx
    divq %rcx
    movq %rax, 8(%rsi)
    xorl %eax, %eax
9:  ret

.Ltime:                                         # rdi: where to put it as well, or null
    pushq %rdi
    subq $16, %rsp
    movq %rsp, %rsi
    movl $5, %edi                               # the real one reads the coarse clock
    movl $228, %eax
    syscall
    imulq $1000000000, (%rsi), %rax
    addq 8(%rsi), %rax
    addq $16, %rsp
    xorl %edi, %edi
    leaq 1f(%rip), %r8
    jmp .Lskew
1:  leaq 2f(%rip), %r8
    jmp .Lsplit
2:  popq %rdi
    testq %rdi, %rdi
    jz 9f
    movq %rax, (%rdi)
9:  ret

# rax: nanoseconds -> rax: seconds, rdx: nanoseconds of the second, never negative. Returns to r8.
.Lsplit:
    movl $1000000000, %ecx
    cqto
    idivq %rcx
    testq %rdx, %rdx
    jns 1f
    addq %rcx, %rdx
    decq %rax
1:  jmpq *%r8

# rax: the true time, rdi: index -> rax: the skewed one. Returns to r8; keeps rsi.
.Lskew:
    pushq %rbx
    movq %rax, %r11
    imulq $40, %rdi, %rdi
1:  movl .Lsequence(%rip), %r9d
    movl %r9d, %ecx
    andl $1, %ecx
    imull $200, %ecx, %ecx
    leaq .Lslots(%rip), %r10
    addq %rcx, %r10
    addq %rdi, %r10
    movq 24(%r10), %rbx                         # swing
    movq 32(%r10), %rcx                         # strobe
    testq %rcx, %rcx
    jz 2f
    movq %r11, %rax
    subq 8(%r10), %rax
    cqto
    idivq %rcx
    testb $1, %al
    jz 2f
    xorl %ebx, %ebx
2:  movq %r11, %rax
    subq 8(%r10), %rax                          # base
    imulq 16(%r10)                              # gain, 32 bits of it behind the point
    shrdq $32, %rdx, %rax
    addq %r11, %rax
    addq (%r10), %rax                           # drift so far
    addq %rbx, %rax
    cmpl .Lsequence(%rip), %r9d
    jne 1b
    popq %rbx
    jmpq *%r8

# For calls from outside: rax: what to call.
.Ltrampoline:
    callq *%rax
    int3

# The arithmetic alone, for tests. rdi: the true time, rsi: index.
.Lapply:
    movq %rdi, %rax
    movq %rsi, %rdi
    leaq 1f(%rip), %r8
    jmp .Lskew
1:  ret

    .balign 8
.Lslots:
    .zero 400
splitbrain_clock_stub_end:
    .text
