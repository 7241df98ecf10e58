// SPDX-License-Identifier: GPL-2.0-or-later
// Multiboot entry: 32-bit protected mode, flat segments, paging and interrupts off. EAX = magic, EBX = information.

    .section .text.entry, "ax"
    .balign 4
    .long   0x1BADB002, 3, -(0x1BADB002 + 3)    // page-aligned modules, memory map
    .code32
    .globl  _start
_start:
    cli
    cld
    mov     $stack_top, %esp
    push    %ebx
    push    %eax
    call    barelaunch_main             // does not return

    .section .rodata
    .balign 16
    .globl  ssdt_start, ssdt_end
ssdt_start:                             // the TPM's device, which the firmware's tables do not know
    .incbin SSDT_AML
ssdt_end:

    .bss
    .balign 16
    .skip   8192
stack_top:
    .section .note.GNU-stack, "", @progbits
