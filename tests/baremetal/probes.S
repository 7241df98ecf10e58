// SPDX-License-Identifier: GPL-2.0-or-later
// What C++ cannot say: entries that record the state they were entered with.

// entry_probe: a domain's entry that stores every register before it changes one, then goes on as guest_entry does with
// the function entry_probe_function.
    .section .text.boot, "ax"
    .code32
    .globl  entry_probe
entry_probe:
    mov     %eax, entry_state + 0
    mov     %ebx, entry_state + 4
    mov     %ecx, entry_state + 8
    mov     %edx, entry_state + 12
    mov     %esi, entry_state + 16
    mov     %edi, entry_state + 20
    mov     %ebp, entry_state + 24
    mov     %esp, entry_state + 28
    mov     $entry_stack_top, %esp
    pushfl
    popl    entry_state + 32
    mov     %cr0, %eax
    mov     %eax, entry_state + 36
    mov     %cr3, %eax
    mov     %eax, entry_state + 40
    mov     %cr4, %eax
    mov     %eax, entry_state + 44
    mov     $0xC0000080, %ecx
    rdmsr
    mov     %eax, entry_state + 48
    mov     %dr7, %eax
    mov     %eax, entry_state + 52
    mov     %dr6, %eax
    mov     %eax, entry_state + 56
    mov     %cs, %ax
    mov     %ax, entry_state + 60
    mov     %ss, %ax
    mov     %ax, entry_state + 62
    mov     %ds, %ax
    mov     %ax, entry_state + 64
    mov     %es, %ax
    mov     %ax, entry_state + 66
    mov     $entry_bytes, %edi          // direction and step of string instructions, without a CLD before
    mov     $0xA5, %al
    mov     $4, %ecx
    rep stosb
    mov     %edi, %eax
    sub     $entry_bytes, %eax
    mov     %eax, entry_state + 68
    cld
    mov     entry_probe_function, %ebx
    mov     %ebx, guest_function
    movl    $1, in_guest
    mov     $stacks + 0x4000, %esp
    mov     $guest_main, %ebx
    jmp     enter_long_mode

    .data
    .globl  entry_state, entry_probe_function
    .balign 8
entry_state:            .skip 96
entry_probe_function:   .long 0
    .skip 64
entry_bytes:            .skip 64
    .skip 256
entry_stack_top:

    .section .note.GNU-stack, "", @progbits
