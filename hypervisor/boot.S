// SPDX-License-Identifier: GPL-2.0-or-later
// From the multiboot loader to SKINIT, from SKINIT to C++; the cores' way in; interrupt entry.

    .set MULTIBOOT_MAGIC, 0x1BADB002
    .set MULTIBOOT_FLAGS, 3                 // page-aligned modules, memory information
    .set MSR_EFER, 0xC0000080
    .set EFER_LME_SVME, 1 << 8 | 1 << 12
    .set CR0_VALUE, 0x80010031              // PG WP NE ET PE, caches on
    .set LAPIC_ICR, 0xFEE00300
    .set LAPIC_EOI, 0xFEE000B0
    .set CODE32, 0x08
    .set DATA, 0x10
    .set CODE64, 0x18

// ---- before the launch: unmeasured ------------------------------------------------------------------------------

    .section .boot, "awx", @progbits
    .balign 8
    .long   MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

// multiboot_entry: 32-bit flat, paging off. In: eax = loader's magic, ebx = multiboot information.
// Brings the other cores to wait-for-SIPI, leaves two words behind the measured part and launches. On a processor
// without SKINIT the same code is entered unlaunched, and says so in its hello.
    .code32
    .globl  multiboot_entry
multiboot_entry:
    cli
    cld
    xor     %ecx, %ecx
    cmp     $0x2BADB002, %eax
    cmove   %ebx, %ecx
    mov     %ecx, handoff_multiboot

    movl    $0x000C0500, LAPIC_ICR          // INIT to all others; they were halted by the firmware
.L_init_pending:
    testl   $1 << 12, LAPIC_ICR
    jnz     .L_init_pending
    mov     $4, %ecx                        // 220 ms on timer channel 2, so that every core has taken its INIT:
.L_timer_starts:                            // SKINIT shuts the machine down if one has not
    in      $0x61, %al
    and     $0xFC, %al
    or      $1, %al
    out     %al, $0x61
    mov     $0xB0, %al
    out     %al, $0x43
    mov     $0xFF, %al
    out     %al, $0x42
    out     %al, $0x42
.L_timer_runs:
    pause
    in      $0x61, %al
    test    $1 << 5, %al
    jz      .L_timer_runs
    loop    .L_timer_starts

    mov     $0x80000001, %eax
    cpuid
    bt      $12, %ecx                       // SKINIT. APM 3, E.4.2
    mov     $slb_base, %eax
    jnc     .L_unlaunched
    skinit
.L_unlaunched:
    mov     $slb_end, %esp
    jmp     launch_entry

// ---- the secure loader block ------------------------------------------------------------------------------------

    .section .slb.header, "ax", @progbits
.L_slb:
    .short  launch_entry - .L_slb, slb_measured // APM 2, 15.27.1: entry point, bytes to measure
    .balign 16

// launch_entry: as SKINIT leaves the processor: 32-bit flat CS and SS, all else unset, GIF 0, eax = SLB base.
launch_entry:
    cli
    cld
    cmp     $slb_base, %eax                 // a copy launched elsewhere would go on in bytes that nobody measured
    jne     .L_refuse
    lgdt    %ss:gdt_pointer
    ljmp    $CODE32, $.L_own_segments
.L_own_segments:
    mov     $DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     $slb_end, %esp

    mov     $0x80000001, %eax
    cpuid
    bt      $26, %edx                       // 1 GiB pages
    jnc     .L_refuse
    bt      $2, %ecx                        // SVM
    jnc     .L_refuse

    mov     $bss_start, %edi                // not measured, so not trusted to be zero
    mov     $bss_end, %ecx
    sub     %edi, %ecx
    xor     %eax, %eax
    rep     stosb

    movl    $page_directory + 3, page_map   // identity map of 512 GiB
    xor     %ecx, %ecx
.L_map:
    mov     %ecx, %eax
    shl     $30, %eax
    or      $0x83, %eax                     // present, writable, 1 GiB page
    mov     %eax, page_directory(, %ecx, 8)
    mov     %ecx, %eax
    shr     $2, %eax
    mov     %eax, page_directory + 4(, %ecx, 8)
    inc     %ecx
    cmp     $512, %ecx
    jne     .L_map
    mov     $hypervisor_main, %ebx
    mov     $slb_end, %esi
    jmp     enter_long_mode

.L_refuse:
    cli
    hlt
    jmp     .L_refuse

// core_entry: 32-bit protected mode, from the trampoline.
core_entry:
    mov     $DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     $core_main, %ebx
    mov     core_stack, %esi
    mov     core_number, %edi

// enter_long_mode: calls the 64-bit function at ebx with stack esi and first argument edi. It does not return.
enter_long_mode:
    mov     $1 << 5, %eax                   // CR4.PAE
    mov     %eax, %cr4
    mov     $page_map, %eax
    mov     %eax, %cr3
    mov     $MSR_EFER, %ecx
    rdmsr
    or      $EFER_LME_SVME, %eax
    wrmsr
    mov     $CR0_VALUE, %eax
    mov     %eax, %cr0
    ljmp    $CODE64, $.L_long_mode
    .code64
.L_long_mode:
    mov     %esi, %esp
    mov     %edi, %edi                      // zero-extends
    xor     %ebp, %ebp
    mov     %ebx, %eax
    call    *%rax
    ud2

// core_trampoline: what a starting core executes, copied below 1 MiB. Real mode; CS is the page.
    .code16
    .globl  core_trampoline, core_trampoline_end
core_trampoline:
    cli
    lgdtl   %cs:gdt_pointer_copy - core_trampoline
    mov     $0x11, %eax                     // PE, ET
    mov     %eax, %cr0
    ljmpl   $CODE32, $core_entry
    .balign 8
gdt_pointer_copy:
    .word   gdt_end - gdt - 1
    .long   gdt
core_trampoline_end:
    .code64

    .balign 8
gdt:
    .quad   0
    .quad   0x00CF9B000000FFFF              // 32-bit code
    .quad   0x00CF93000000FFFF              // data
    .quad   0x00AF9B000000FFFF              // 64-bit code
gdt_end:
gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt

// ---- interrupts -------------------------------------------------------------------------------------------------

// exception_entries: 32 entries of 16 bytes, one a vector. Leave an ExceptionFrame and call exception(frame).
    .text
    .balign 16
    .globl  exception_entries
exception_entries:
    .set    vector, 0
    .rept   32
    .balign 16
    .if     !(0x60227D00 >> vector & 1)     // vectors that push an error code: 8 10-14 17 21 29 30
    push    $0
    .endif
    push    $vector
    jmp     exception_common
    .set    vector, vector + 1
    .endr
exception_common:
    push    %r15
    push    %r14
    push    %r13
    push    %r12
    push    %r11
    push    %r10
    push    %r9
    push    %r8
    push    %rbp
    push    %rdi
    push    %rsi
    push    %rdx
    push    %rcx
    push    %rbx
    push    %rax
    mov     %rsp, %rdi
    and     $-16, %rsp
    cld
    call    exception

// ignore_interrupt: timer and serial port only end a HLT, and nothing else may bring the core down.
    .globl  ignore_interrupt
ignore_interrupt:
    push    %rax
    mov     $LAPIC_EOI, %eax
    movl    $0, (%rax)
    pop     %rax
    iretq

// ---- data -------------------------------------------------------------------------------------------------------

    .section .handoff, "aw", @nobits        // written before the launch, checked after it
    .globl  handoff_multiboot
handoff_multiboot:
    .skip   4

    .bss
    .balign 4096
page_map:
    .skip   4096
page_directory:
    .skip   4096
    .globl  core_stack, core_number
core_stack:                                 // for the one core that is being started
    .skip   4
core_number:
    .skip   4

    .section .note.GNU-stack, "", @progbits
