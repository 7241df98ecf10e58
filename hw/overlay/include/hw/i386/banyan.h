/*
 * Domains and late launch: what the rest of QEMU calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_I386_BANYAN_H
#define HW_I386_BANYAN_H

#include "cpu.h"
#include "hw/acpi/bios-linker-loader.h"

/* There is a domain table: second stage, filters and tags are in force. */
extern bool banyan_enabled;
/* The TSC counts QEMU_CLOCK_VIRTUAL: 1 GHz, the same on every core. */
extern bool banyan_virtual_tsc;

/* The core waits for SIPI and takes nothing but that or another INIT. */
bool banyan_waits_for_sipi(X86CPU *cpu);

/* Where a core's access to physical address addr really goes. */
hwaddr banyan_second_stage(CPUX86State *env, hwaddr addr);

/*
 * Physical memory as the processor's own structures see it (VMCB, host save
 * area, permission maps): the host's, without what belongs to a domain.
 */
AddressSpace *banyan_host_memory(CPUState *cs, MemTxAttrs attrs);

/*
 * A port access by a domain. True: it is denied, and a read gives *data.
 */
bool banyan_port_denied(CPUX86State *env, uint32_t port, unsigned width,
                        bool write, uint32_t *data);

typedef enum {
    BANYAN_MSR_IS_PLAIN, /* as on any machine, with *val */
    BANYAN_MSR_IS_DONE,  /* nothing is left to do; a read gives *val */
    BANYAN_MSR_IS_FAULT, /* #GP(0) */
} BanyanMsr;

BanyanMsr banyan_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val);
BanyanMsr banyan_wrmsr(CPUX86State *env, uint32_t msr, uint64_t *val);

/* VMRUN on a core that has joined a domain. */
G_NORETURN void banyan_cpu_vmrun(CPUX86State *env, uint64_t vmcb,
                                 int next_eip_addend);
/* CPU_INTERRUPT_DOMAIN was taken. BQL. */
void banyan_cpu_event(X86CPU *cpu);
/* A triple fault: does not return if the core runs a domain. */
void banyan_cpu_shutdown(CPUX86State *env, uintptr_t retaddr);
/* A SIPI was taken. BQL. */
void banyan_cpu_sipi(CPUX86State *env);

/*
 * Firmware tables of the vTPM, if there is one and it is to be seen: appended
 * to tables, each with its entry in offsets.
 */
void banyan_acpi_tables(GArray *offsets, GArray *tables, BIOSLinker *linker,
                        const char *oem_id, const char *oem_table_id);

/* TSC-deadline mode of the local APIC's timer. BQL, but for the last two. */
struct APICCommonState;
bool banyan_deadline_mode(const struct APICCommonState *s);
void banyan_deadline_update(struct APICCommonState *s);
/* The timer has fired: whether that was the deadline. It is armed again if not. */
bool banyan_deadline_come(struct APICCommonState *s);
/* The MSR. */
uint64_t banyan_deadline(CPUX86State *env);
void banyan_set_deadline(CPUX86State *env, uint64_t deadline);

/* An interrupt from domain (0: the host) was refused somewhere. */
void banyan_deny_interrupt(unsigned domain);

#endif
