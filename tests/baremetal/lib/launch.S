// SPDX-License-Identifier: GPL-2.0-or-later
// SKINIT, and back: the block records the state it was entered in and returns to whoever launched it.

// void launch_now(uint32_t eax): SKINIT with tell-tale registers and flags. Returns in the block's name: GIF 0, no GS base,
// no IDT. The machine's other state is launch_state (below).
    .text
    .globl  launch_now
launch_now:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    mov     %rsp, launch_stack
    mov     %edi, %eax
    movabs  $0x5EED5EED5EED5EED, %rbx
    movq    %rbx, %xmm5
    mov     %rbx, %rcx
    mov     %rbx, %rdx
    mov     %rbx, %rsi
    mov     %rbx, %rdi
    mov     %rbx, %rbp
    mov     %rbx, %r8
    mov     %rbx, %r9
    mov     %rbx, %r10
    mov     %rbx, %r11
    mov     %rbx, %r12
    mov     %rbx, %r13
    mov     %rbx, %r14
    mov     %rbx, %r15
    std
    cmp     $-1, %ebx                       // CF, and more
    skinit  %eax
    ud2

    .globl  launch_resume
launch_resume:
    movq    %r8, launch_high
    or      %r9, %r8
    or      %r10, %r8
    or      %r11, %r8
    or      %r12, %r8
    or      %r13, %r8
    or      %r14, %r8
    or      %r15, %r8
    mov     %r8, launch_high
    movq    %xmm5, %r8
    mov     %r8, launch_xmm5
    mov     launch_stack, %rsp
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    cld
    ret

// launch_block: the code of a block, copied to its entry point; position independent.
    .section .text.boot, "ax"
    .code32
    .globl  launch_block, launch_block_end
launch_block:
    mov     %eax, %ss:launch_state + 0
    mov     %ebx, %ss:launch_state + 4
    mov     %ecx, %ss:launch_state + 8
    mov     %edx, %ss:launch_state + 12
    mov     %esi, %ss:launch_state + 16
    mov     %edi, %ss:launch_state + 20
    mov     %ebp, %ss:launch_state + 24
    mov     %esp, %ss:launch_state + 28
    pushfl
    popl    %eax
    mov     %eax, %ss:launch_state + 32
    call    1f
1:  popl    %eax
    sub     $(1b - launch_block), %eax
    mov     %eax, %ss:launch_state + 36     // eip
    mov     %cr0, %eax
    mov     %eax, %ss:launch_state + 40
    mov     %cr2, %eax
    mov     %eax, %ss:launch_state + 44
    mov     %cr3, %eax
    mov     %eax, %ss:launch_state + 48
    mov     %cr4, %eax
    mov     %eax, %ss:launch_state + 52
    mov     %dr6, %eax
    mov     %eax, %ss:launch_state + 56
    mov     %dr7, %eax
    mov     %eax, %ss:launch_state + 60
    mov     $0xC0000080, %ecx
    rdmsr
    mov     %eax, %ss:launch_state + 64
    mov     %edx, %ss:launch_state + 68
    mov     $0xC0010114, %ecx
    rdmsr
    mov     %eax, %ss:launch_state + 72
    mov     %cs, %ax
    mov     %ax, %ss:launch_state + 76
    mov     %ss, %ax
    mov     %ax, %ss:launch_state + 78
    mov     %ds, %ax
    mov     %ax, %ss:launch_state + 80
    mov     %es, %ax
    mov     %ax, %ss:launch_state + 82
    mov     %fs, %ax
    mov     %ax, %ss:launch_state + 84
    mov     %gs, %ax
    mov     %ax, %ss:launch_state + 86
    sgdtl   %ss:launch_state + 88
    sidtl   %ss:launch_state + 96
    lgdt    %ss:gdt_pointer
    ljmp    $0x18, $2f
launch_block_end:
2:  mov     $0x10, %eax                     // back in the program
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     $launch_resume, %ebx
    jmp     enter_long_mode

    .bss
    .balign 8
    .globl  launch_stack, launch_state, launch_high, launch_xmm5
launch_stack:   .skip 8
launch_high:    .skip 8
launch_xmm5:    .skip 8
launch_state:   .skip 128

    .section .note.GNU-stack, "", @progbits
