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

// reach_probe: a domain's entry that, with paging off, with 32-bit and PAE paging and in real mode, loads from and stores to
// an address outside (reach_target; in real mode 80000h), then goes on as guest_entry does. What it loaded is in
// reach_loaded: off, 32-bit, PAE, real.
    .section .text.boot, "ax"
    .code32
    .globl  reach_probe
reach_probe:
    cld
    mov     $entry_stack_top, %esp
    mov     reach_target, %edi
    call    reach_once
    mov     %eax, reach_loaded

    xor     %ecx, %ecx                      // 1024 pages of 4 MiB
.L_legacy:
    mov     %ecx, %eax
    shl     $22, %eax
    or      $0x83, %eax
    mov     %eax, reach_tables(, %ecx, 4)
    inc     %ecx
    cmp     $1024, %ecx
    jne     .L_legacy
    mov     $1 << 4, %eax                   // PSE
    mov     %eax, %cr4
    mov     $reach_tables, %eax
    mov     %eax, %cr3
    mov     $0x80000011, %eax
    mov     %eax, %cr0
    call    reach_once
    mov     %eax, reach_loaded + 4
    mov     $0x11, %eax
    mov     %eax, %cr0

    xor     %ecx, %ecx                      // 2048 pages of 2 MiB
.L_pae:
    mov     %ecx, %eax
    shl     $21, %eax
    or      $0x83, %eax
    mov     %eax, reach_tables(, %ecx, 8)
    movl    $0, reach_tables + 4(, %ecx, 8)
    inc     %ecx
    cmp     $2048, %ecx
    jne     .L_pae
    mov     $reach_tables + 1, %eax
    xor     %ecx, %ecx
.L_pae_top:
    mov     %eax, reach_pointers(, %ecx, 8)
    movl    $0, reach_pointers + 4(, %ecx, 8)
    add     $0x1000, %eax
    inc     %ecx
    cmp     $4, %ecx
    jne     .L_pae_top
    mov     $1 << 5, %eax                   // PAE
    mov     %eax, %cr4
    mov     $reach_pointers, %eax
    mov     %eax, %cr3
    mov     $0x80000011, %eax
    mov     %eax, %cr0
    call    reach_once
    mov     %eax, reach_loaded + 8
    mov     $0x11, %eax
    mov     %eax, %cr0
    xor     %eax, %eax
    mov     %eax, %cr4

    mov     $reach_real, %esi               // real mode runs below 64 KiB
    mov     $0x9000, %edi
    mov     $reach_real_end - reach_real, %ecx
    rep movsb
    lgdt    gdt_pointer
    mov     $0x28, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    ljmp    $0x20, $0x9000
    .code16
reach_real:
    mov     $0x10, %eax
    mov     %eax, %cr0
    ljmp    $0x900, $.L_in_real - reach_real
.L_in_real:
    mov     $0x8000, %ax
    mov     %ax, %ds
    mov     %ax, %es
    mov     0, %ebx
    movl    $0x0BAD0BAD, 0
    lock incl 0
    xor     %di, %di
    mov     $64, %cx
    rep stosb
    lgdtl   %cs:.L_real_gdt - reach_real
    mov     $0x11, %eax
    mov     %eax, %cr0
    ljmpl   $0x18, $.L_from_real
.L_real_gdt:
    .word   0x3F
    .long   gdt
reach_real_end:
    .code32
.L_from_real:
    mov     $0x10, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     %ebx, reach_loaded + 12
    mov     entry_probe_function, %ebx
    mov     %ebx, guest_function
    movl    $1, in_guest
    mov     $stacks + 0x4000, %esp
    mov     $guest_main, %ebx
    jmp     enter_long_mode

reach_once:                                 // edi = where; returns what was there in eax
    push    %edi
    mov     (%edi), %eax
    push    %eax
    movl    $0x0BAD0BAD, (%edi)
    lock incl (%edi)
    mov     $16, %ecx
    mov     $0x0BAD0BAD, %eax
    rep stosl
    pop     %eax
    pop     %edi
    and     (%edi), %eax
    ret

    .data
    .globl  reach_target, reach_loaded
    .balign 4
reach_target:   .long 0
reach_loaded:   .skip 16
    .bss
    .balign 4096
reach_tables:   .skip 4 * 4096
reach_pointers: .skip 4096

    .section .note.GNU-stack, "", @progbits
