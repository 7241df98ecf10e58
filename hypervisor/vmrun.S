// SPDX-License-Identifier: GPL-2.0-or-later

// void svm_enter(uint64_t vmcb): one VMRUN, returns at the next #VMEXIT.
// In: rdi = physical address of the VMCB. Preserves the callee-saved registers, whatever the exit left in them.
// On return GIF is 0.
    .text
    .globl  svm_enter
svm_enter:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    mov     %rdi, %rax
    clgi
    vmrun   %rax
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    cld
    ret

    .section .note.GNU-stack, "", @progbits
