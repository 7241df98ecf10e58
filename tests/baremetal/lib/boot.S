// SPDX-License-Identifier: GPL-2.0-or-later
// Ways into the program: PVH (core 0), SIPI (the other cores), a domain's entry state, SKINIT; and what interrupts,
// faults and #VMEXITs pass through.

    .set    MSR_EFER, 0xC0000080
    .set    CODE64, 0x08
    .set    DATA, 0x10
    .set    CODE32, 0x18
    .set    CODE16, 0x20
    .set    DATA16, 0x28
    .set    STACK_SIZE, 0x4000

    .section .note.pvh, "a", @note
    .long   4, 4, 18                        // name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz  "Xen"
    .long   pvh_entry

// ---- 32-bit entries -----------------------------------------------------------------------------------------------

// pvh_entry: 32-bit flat, paging off, ebx = start info.
    .section .text.boot, "ax"
    .code32
    .globl  pvh_entry
pvh_entry:
    cli
    cld
    mov     %ebx, start_info
    mov     $run_selftests, %ebx
    mov     $stacks + STACK_SIZE, %esp
    jmp     enter_long_mode

// guest_entry: what a domain's boot core begins with (a descriptor's Entry). ebx = function, esi = argument.
    .globl  guest_entry
guest_entry:
    cld
    mov     $stacks + STACK_SIZE, %esp
    mov     %esi, guest_argument
    mov     %ebx, guest_function
    movl    $1, in_guest
    mov     $guest_main, %ebx
    jmp     enter_long_mode

// core_entry: from the trampoline; eax = core number.
core_entry:
    lgdt    gdt_pointer
    mov     $DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     starting_core, %eax
    inc     %eax
    imul    $STACK_SIZE, %eax
    lea     stacks(%eax), %esp
    mov     $core_main, %ebx

// enter_long_mode: goes to the 64-bit function ebx with stack esp. The identity map is made anew: it is harmless twice.
    .globl  enter_long_mode
enter_long_mode:
    lgdt    gdt_pointer
    movl    $pdpt + 7, pml4
    xor     %ecx, %ecx
.L_map:
    mov     %ecx, %eax
    shl     $30, %eax
    or      $0x87, %eax                     // present, writable, user, 1 GiB page
    mov     %eax, pdpt(, %ecx, 8)
    mov     %ecx, %eax
    shr     $2, %eax
    mov     %eax, pdpt + 4(, %ecx, 8)
    inc     %ecx
    cmp     $512, %ecx
    jne     .L_map
    mov     $1 << 5 | 1 << 9 | 1 << 10, %eax // CR4: PAE, OSFXSR, OSXMMEXCPT
    mov     %eax, %cr4
    mov     $pml4, %eax
    mov     %eax, %cr3
    mov     $MSR_EFER, %ecx
    rdmsr
    or      $1 << 8, %eax                   // LME
    wrmsr
    mov     $0x80000033, %eax               // CR0: PG NE ET MP PE
    mov     %eax, %cr0
    ljmp    $CODE64, $.L_long_mode
    .code64
.L_long_mode:
    mov     $DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     %esp, %esp
    mov     %ebx, %ebx
    xor     %ebp, %ebp
    call    *%rbx
    ud2

// trampoline: copied to kTrampoline, entered by SIPI.
    .code16
    .globl  trampoline, trampoline_end
trampoline:
    cli
    cld
    xor     %ax, %ax
    mov     %ax, %ds
    lgdtl   %cs:trampoline_gdt - trampoline
    mov     $0x11, %eax
    mov     %eax, %cr0
    ljmpl   $CODE32, $core_entry
    .balign 8
trampoline_gdt:
    .word   gdt_end - gdt - 1
    .long   gdt
trampoline_end:
    .code64

// ---- faults and interrupts ----------------------------------------------------------------------------------------

// interrupt_entries: 256 of 16 bytes, one a vector. Each leaves a Frame and calls trap(frame).
    .text
    .balign 16
    .globl  interrupt_entries
interrupt_entries:
    .set    vector, 0
    .rept   256
    .balign 16
    .if     !(vector < 32 && (0x60227D00 >> (vector & 31) & 1)) // with an error code: 8 10-14 17 21 29 30
    push    $0
    .endif
    push    $vector
    jmp     interrupt_common
    .set    vector, vector + 1
    .endr
interrupt_common:
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
    mov     %rsp, %rbx
    and     $-16, %rsp
    cld
    call    trap
    mov     %rbx, %rsp
    pop     %rax
    pop     %rbx
    pop     %rcx
    pop     %rdx
    pop     %rsi
    pop     %rdi
    pop     %rbp
    pop     %r8
    pop     %r9
    pop     %r10
    pop     %r11
    pop     %r12
    pop     %r13
    pop     %r14
    pop     %r15
    add     $16, %rsp
    iretq

// bool protected_call(void (*function)(void *), void *argument, uint64_t *recovery): true if it faulted. *recovery is
// the stack that trap() goes back to, 0 when nothing is expected.
    .globl  protected_call, protected_call_fault
protected_call:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rdx
    mov     %rsp, (%rdx)
    mov     %rdi, %rax
    mov     %rsi, %rdi
    call    *%rax
    xor     %eax, %eax
    jmp     1f
protected_call_fault:
    mov     $1, %eax
1:
    pop     %rdx
    movq    $0, (%rdx)
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    cld
    ret

// ---- VMRUN --------------------------------------------------------------------------------------------------------

// void vmrun_probe(uint64_t vmcb, ExitState *state): one VMRUN with tell-tale values in every register, and what the
// registers hold after the #VMEXIT. GIF is 0 on return.
    .globl  vmrun_probe
vmrun_probe:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rsi
    mov     %rdi, %rax
    movabs  $0x5EED5EED5EED5EED, %rbx
    movq    %rbx, %xmm0
    punpcklqdq %xmm0, %xmm0
    movdqa  %xmm0, %xmm7
    movdqa  %xmm0, %xmm15
    fninit
    fldpi
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
    clgi
    vmrun   %rax
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
    cld
    mov     15 * 8(%rsp), %rdi              // the ExitState
    fxsave64 (%rdi)
    add     $512, %rdi
    mov     %rsp, %rsi
    mov     $15, %ecx
    rep movsq
    add     $16 * 8, %rsp
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    ret

// ---- tables -------------------------------------------------------------------------------------------------------

    .section .rodata
    .balign 8
    .globl  gdt, gdt_pointer
gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF              // 08: 64-bit code
    .quad   0x00CF93000000FFFF              // 10: flat data
    .quad   0x00CF9B000000FFFF              // 18: 32-bit code
    .quad   0x00009B000000FFFF              // 20: 16-bit code
    .quad   0x000093000000FFFF              // 28: 16-bit data
    .quad   0x00CFF3000000FFFF              // 30: flat data, CPL 3
    .quad   0x00AFFB000000FFFF              // 38: 64-bit code, CPL 3
gdt_end:
    .balign 8
gdt_pointer:
    .word   gdt_end - gdt - 1
    .quad   gdt

    .data
    .globl  start_info, starting_core, in_guest, guest_function, guest_argument
start_info:     .long 0
starting_core:  .long 0
in_guest:       .long 0
guest_function: .long 0
guest_argument: .long 0

    .bss
    .balign 4096
    .globl  pml4, pdpt, stacks
pml4:   .skip   4096
pdpt:   .skip   4096
stacks: .skip   8 * STACK_SIZE              // of core n: ends at stacks + (n + 1) * STACK_SIZE

    .section .note.GNU-stack, "", @progbits
