// SPDX-License-Identifier: GPL-2.0-or-later
// Entry of the secure loader. In (APM 2, 15.27.4): 32-bit protected mode, flat CS and SS whose descriptors are in no
// table, DS and ES as after INIT, EAX = base of the block, ESP = its end, GIF 0, interrupts off.
// Leaves with: long mode, identity map of 4 GiB, SSE usable, our IDT's place still empty, bss zeroed.

    .section .slb_header, "a"
    .word   slb_entry_offset
    .word   slb_measured                // bytes that SKINIT hashes: everything up to the bss

    .section .text.entry, "ax"
    .code32
    .globl  loader_entry
loader_entry:
    cld
    cmp     $slb_start, %eax            // linked for one address; anywhere else is not our launch
    jne     .L_shutdown
    lgdt    %ss:gdt_pointer
    ljmp    $0x08, $.L_own_segments
.L_own_segments:
    mov     $0x10, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     $slb_start + 0x10000, %esp

    mov     $slb_bss_start, %edi        // nothing outside the measured bytes is trusted
    mov     $slb_bss_end, %ecx
    sub     %edi, %ecx
    shr     $2, %ecx
    xor     %eax, %eax
    rep     stosl

    movl    $loader_pdpt + 3, loader_pml4
    mov     $loader_pd + 3, %eax        // four page directories
    mov     $loader_pdpt, %edi
    mov     $4, %ecx
.L_pdpt:
    mov     %eax, (%edi)
    add     $0x1000, %eax
    add     $8, %edi
    loop    .L_pdpt
    mov     $0x83, %eax                 // 2048 pages of 2 MiB: present, writable, large
    mov     $loader_pd, %edi
    mov     $2048, %ecx
.L_pd:
    mov     %eax, (%edi)
    add     $0x200000, %eax
    add     $8, %edi
    loop    .L_pd

    mov     $loader_pml4, %eax
    mov     %eax, %cr3
    mov     $(1 << 5 | 1 << 9), %eax    // CR4.PAE, CR4.OSFXSR
    mov     %eax, %cr4
    mov     $0xc0000080, %ecx           // EFER
    rdmsr
    or      $(1 << 8), %eax             // EFER.LME
    wrmsr
    mov     $0x80000033, %eax           // CR0: PG, NE, ET, MP, PE; caches on
    mov     %eax, %cr0
    ljmp    $0x18, $.L_long_mode

.L_shutdown:                            // a fault without an IDT is a triple fault: shutdown
    lidt    %ss:idt_none
    ud2

    .code64
.L_long_mode:
    xor     %eax, %eax
    mov     %eax, %fs
    mov     %eax, %gs
    call    loader_main                 // does not return

// void loader_shutdown(): ends the domain, or resets the bare machine. Does not return.
    .globl  loader_shutdown
loader_shutdown:
    lidt    idt_none
    ud2

// void loader_enter_linux(uint64_t entry, uint64_t boot_params, uint64_t page_tables).
// The 64-bit boot protocol: CS 0x10 and DS, ES, SS 0x18 flat, RSI = boot_params, interrupts off; GIF 1.
    .globl  loader_enter_linux
loader_enter_linux:
    mov     %rdx, %cr3
    lgdt    linux_gdt_pointer
    mov     $0x18, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    xor     %eax, %eax
    mov     %eax, %fs
    mov     %eax, %gs
    push    $0x10
    push    %rdi
    xor     %ebx, %ebx
    xor     %ecx, %ecx
    xor     %edx, %edx
    xor     %ebp, %ebp
    xor     %edi, %edi
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    xor     %r10d, %r10d
    xor     %r11d, %r11d
    lidt    idt_none                    // an exception from here on is the kernel's to prepare for
    stgi
    lretq

// Exception entries: vector in %edi, error code or return address on the stack's top in %rsi.
    .macro  vector number
    .balign 8
    push    $\number
    jmp     .L_fault
    .endm
    .balign 8
    .globl  loader_vectors
loader_vectors:
    .set    number, 0
    .rept   32
    vector  number
    .set    number, number + 1
    .endr
.L_fault:
    pop     %rdi
    pop     %rsi
    pop     %rdx
    and     $-16, %rsp
    call    loader_fault                // does not return

    .section .rodata
    .balign 8
gdt:                                    // accessed bits are set: the processor must not write into measured bytes
    .quad   0
    .quad   0x00cf9b000000ffff          // 0x08: 32-bit code
    .quad   0x00cf93000000ffff          // 0x10: data
    .quad   0x00af9b000000ffff          // 0x18: 64-bit code
gdt_end:
    .balign 8
linux_gdt:
    .quad   0
    .quad   0
    .quad   0x00af9b000000ffff          // 0x10: __BOOT_CS
    .quad   0x00cf93000000ffff          // 0x18: __BOOT_DS
linux_gdt_end:
    .balign 8
gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt
    .balign 8
linux_gdt_pointer:
    .word   linux_gdt_end - linux_gdt - 1
    .quad   linux_gdt
    .balign 8
idt_none:
    .word   0
    .quad   0

    .section .bss.tables, "aw", @nobits
    .balign 4096
loader_pml4: .skip 4096
loader_pdpt: .skip 4096
loader_pd:   .skip 4 * 4096

    .section .note.GNU-stack, "", @progbits
