// SPDX-License-Identifier: GPL-2.0-or-later
// A guest of a few instructions, entered at its first byte as a descriptor says: 32-bit flat, eax = what to do,
// ebx = its domain, esi = APIC id of its second core. It sees that it is where it should be, waits for the gate and
// ends in the way asked for. What it finds wrong ends in a triple fault, which the host sees as `shutdown`.

    .set OWN, 0xFED50000
    .set OWN_DOMAIN, OWN + 0x008
    .set OWN_GATE, OWN + 0x00C
    .set OWN_SLEEP_CONTROL, OWN + 0x010
    .set OWN_RESET, OWN + 0x012
    .set CONTROL, 0xFED51000
    .set DATA_MODULE, 0x50000               // the module "data", placed by the test
    .set LAPIC_ICR, 0xFEE00300
    .set SIPI_PAGE, 0x22                    // of ap_start, below
    .set CODE32, 0x08
    .set DATA, 0x10

    .section .text, "ax"
    .code32
    .globl  _start
_start:
    mov     $DATA, %edx
    mov     $0x9F000, %esp
    lgdt    gdt_pointer
    ljmp    $CODE32, $.L_segments
.L_segments:
    mov     %edx, %ds
    mov     %edx, %es
    mov     %edx, %ss
    mov     %eax, %ebp

    cmp     %ebx, OWN_DOMAIN                // the own page knows who asks
    jne     die
    cmpl    $0x61746164, DATA_MODULE        // "data"
    jne     die
    cmpl    $-1, CONTROL                    // the host's window is a black hole
    jne     die
    mov     $0x3FD, %dx                     // the host's serial port too
    in      %dx, %al
    cmp     $0xFF, %al
    jne     die
    mov     $0xCF8, %dx
    in      %dx, %eax
    cmp     $-1, %eax
    jne     die

    cmp     $6, %ebp                        // 6: end before the gate opens
    je      poweroff
.L_gate:
    pause
    cmpl    $1, OWN_GATE
    jne     .L_gate

    cmp     $0, %ebp                        // 0: ACPI S5
    je      poweroff
    cmp     $1, %ebp                        // 1: ACPI reset
    je      reboot
    cmp     $2, %ebp                        // 2: triple fault
    je      die
    cmp     $3, %ebp                        // 3: a loop that nothing interrupts
    je      .L_loop
    cmp     $4, %ebp                        // 4: halted for good
    je      .L_halt
    cmp     $5, %ebp                        // 5: start the second core, end when it ran
    je      second_core
    cmp     $7, %ebp                        // 7: look at the own bus, whose ECAM is at esi
    je      own_bus
    jmp     die

.L_loop:
    cli
    jmp     .L_loop
.L_halt:
    cli
    hlt
    jmp     .L_halt

poweroff:
    movb    $0x34, OWN_SLEEP_CONTROL        // SLP_TYP 5, SLP_EN
    jmp     .L_halt
reboot:
    movb    $0x52, OWN_RESET
    jmp     .L_halt
die:
    lidt    no_interrupts
    ud2

second_core:
    shl     $24, %esi
    mov     %esi, LAPIC_ICR + 0x10
    movl    $0x4500, LAPIC_ICR              // INIT, SIPI
    movl    $0x4600 | SIPI_PAGE, LAPIC_ICR
.L_second:
    pause
    cmpl    $0x600D, second_flag
    jne     .L_second
    jmp     poweroff

own_bus:                                    // a function without command and addresses
    cmpw    $0xFFFF, (%esi)
    je      die
    cmpw    $0, 4(%esi)
    jne     die
    mov     $0x10, %ecx
.L_bar:
    mov     (%esi, %ecx), %eax
    and     $~0xF, %eax                     // type bits are fixed
    jnz     die
    add     $4, %ecx
    cmp     $0x28, %ecx
    jne     .L_bar
    jmp     poweroff

    .balign 8
gdt:
    .quad   0
    .quad   0x00CF9B000000FFFF
    .quad   0x00CF93000000FFFF
gdt_pointer:
    .word   . - gdt - 1
    .long   gdt
no_interrupts:
    .word   0
    .long   0
second_flag:
    .long   0

    .org    (SIPI_PAGE << 12) - 0x20000
    .code16
ap_start:
    mov     $0x2000, %ax
    mov     %ax, %ds
    movl    $0x600D, second_flag - _start
.L_ap_halt:
    cli
    hlt
    jmp     .L_ap_halt

    .section .note.GNU-stack, "", @progbits
