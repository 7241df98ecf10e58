// SPDX-License-Identifier: GPL-2.0-or-later
// Stage 0: the first code of a domain, untrusted and unmeasured. It waits for the start gate and launches.
// In: 32-bit protected mode, flat segments, paging and interrupts off; CS:EIP at the first byte of the image.

    .section .text.entry, "ax"
    .code32
    .globl  _start
_start:
    cli
    cld
    mov     $stage0_stack_top, %esp
    call    stage0_main                 // does not return

    .section .note.GNU-stack, "", @progbits
