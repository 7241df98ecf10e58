/*
 * Domains and late launch: one chip, shared by the two devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_I386_BANYAN_INTERNAL_H
#define HW_I386_BANYAN_INTERNAL_H

#include <sys/resource.h>
#include "exec/memory.h"
#include "hw/pci/pci.h"
#include "hw/i386/banyan.h"
#include "hw/qdev-properties.h"
#include "banyan/capi/domains.h"
#include "banyan/capi/launch.h"
#include "banyan/capi/vtpm.h"

/* The architecture's addresses: include/banyan/arch/domain_table.hpp. */
#define BANYAN_VTPM_BASE 0xFED40000ULL
#define BANYAN_VTPM_FURTHER_BASE 0xFED60000ULL
#define BANYAN_OWN_BASE 0xFED50000ULL
#define BANYAN_OWN_SIZE 0x1000ULL
#define BANYAN_CONTROL_BASE 0xFED51000ULL
#define BANYAN_CONTROL_SIZE 0x2000ULL
#define BANYAN_BLACK_HOLE_BASE 0xFED53000ULL
#define BANYAN_BLACK_HOLE_SIZE 0x1000ULL
#define BANYAN_MSR_DOMAIN 0xC0010F00u
#define BANYAN_VMEXIT_STOP 0x0BAD0001ULL
#define BANYAN_SLB_SIZE 0x10000u
/* Above whatever registers of the chip set can move: RCRB, ECAM, LAPIC. */
#define BANYAN_PINNED 0x2000

typedef struct BanyanChip {
    struct banyan_domains *domains;
    struct banyan_launch *launch;
    struct banyan_vtpm *vtpm; /* NULL: a machine without one */
    QEMUTimer *launch_timer[BANYAN_MAX_DOMAINS + 1];
    uint64_t hash_rate;
    bool serial_launch;
    bool dma_filtered;
    OnOffAuto acpi;     /* whether firmware tables show the vTPM */
    GArray *acpi_log;   /* where firmware logs, once there are tables */
} BanyanChip;

/* The machine's chip; made at the first call. BQL. */
BanyanChip *banyan_chip(void);
/* Whether this machine can carry the chip; says why not. */
bool banyan_machine_suits(Error **errp);
/* The launch machine anew: its parameters come from both devices. BQL. */
bool banyan_chip_make_launch(Error **errp);
/* What the bus says of an access. */
struct banyan_cycle banyan_cycle_of(MemTxAttrs attrs);
/* Commits core to a launch; negative: refused. BQL. */
banyan_status banyan_chip_skinit(X86CPU *cpu, uint32_t slb);
/* Where physical address hpa lies in the machine's RAM. */
uint64_t banyan_ram_offset(uint64_t hpa);
/* The core whose APIC id is core, or NULL. */
X86CPU *banyan_core(uint32_t core);
/* Drops what a core knows of domains, at machine reset. */
void banyan_cpu_machine_reset(X86CPU *cpu);

/* ---- what an instance of the vTPM looks like ---- */

/* Words of a device's command line, for the instance that it has. */
typedef struct BanyanVtpmSetup {
    char *interface;
    char *banks;
    uint32_t did_vid;
} BanyanVtpmSetup;

#define DEFINE_BANYAN_VTPM_SETUP(_state, _field) \
    DEFINE_PROP_STRING("interface", _state, _field.interface), \
    DEFINE_PROP_STRING("banks", _state, _field.banks), \
    DEFINE_PROP_UINT32("did-vid", _state, _field.did_vid, 0)

/* Describes these properties of a device's class. */
void banyan_vtpm_setup_describe(ObjectClass *klass);
/* The machine's chip, if it has a vTPM; else says that it comes first. BQL. */
BanyanChip *banyan_vtpm_chip(Error **errp);
/* Once for each instance. gsi: 0, or where its interrupt goes. BQL. */
bool banyan_vtpm_set_up_instance(struct banyan_vtpm *vtpm, uint32_t instance,
                                 const BanyanVtpmSetup *setup, uint32_t gsi,
                                 Error **errp);

/* ---- the vTPM and the big lock ---- */

/*
 * How long it was held in one go: a trace point. Beside the time, the thread's
 * own part of it, how often it waited for something, and how often the host's
 * scheduler took it off its core, which is no time of ours.
 */
typedef struct BanyanHeldLock {
    int64_t since; /* 0: not traced */
    int64_t cpu_since;
    int64_t ns;
    int64_t cpu_ns;
    struct rusage usage;
} BanyanHeldLock;

void banyan_held_from_here(BanyanHeldLock *held);
void banyan_held_to_here(BanyanHeldLock *held);
/* After the lock has been let go, where it is: takes as long once more. */
void banyan_held_trace(const BanyanHeldLock *held);

/* ---- the vTPM's interrupt lines ---- */
bool banyan_vtpm_irq_suits(uint32_t gsi, Error **errp);
void banyan_vtpm_irq_wire(struct banyan_vtpm *vtpm, uint32_t instance,
                          uint32_t gsi);
void banyan_vtpm_irq_unwire(void);
/* The interrupt that an instance is wired to; 0: none. */
uint32_t banyan_vtpm_irq_of(uint32_t instance);
/* After an access: lines follow. Takes the big lock only if one has to. */
void banyan_vtpm_irq_settle(void);
/* struct banyan_vtpm_host_ops */
void banyan_vtpm_irq_op(void *opaque, uint32_t instance, int level);
void banyan_vtpm_look_at_op(void *opaque, uint32_t instance, int64_t vtime_ns);

/* ---- the vTPM in snapshots and migration ---- */
bool banyan_vtpm_state_init(BanyanChip *chip, uint32_t instances, bool has_key,
                            Error **errp);
/* Whether a core is between SKINIT and its loader: nothing can be saved. BQL. */
void banyan_vtpm_state_launch(bool open);

/* events of X86DomainState */
enum {
    BANYAN_EVENT_STOP = 1 << 0,
    BANYAN_EVENT_SHUTDOWN = 1 << 1,
    BANYAN_EVENT_SIBLING = 1 << 2,
    BANYAN_EVENT_VMRUN = 1 << 3,
    BANYAN_EVENT_SLB = 1 << 4,
};
void banyan_cpu_raise(X86CPU *cpu, uint32_t event);

/* ---- DMA: one view per root port, one for the host's devices ---- */
/* False: the machine has no PCI bus to filter. */
bool banyan_dma_init(BanyanChip *chip);
void banyan_dma_update(void);
/* [slb, slb + 64 KiB) of the domain's guest physical memory. */
void banyan_dma_window(uint32_t domain, uint64_t slb, bool closed);
bool banyan_dma_window_closed(uint32_t domain);

/* ---- 00:18.0 and 00:18.3: a loader's way to lift its window ---- */
bool banyan_dev_make(PCIBus *bus, Error **errp);
bool banyan_dev_owns(PCIDevice *pci_dev);
/* What the domain's earlier life left in them. */
void banyan_dev_forget(unsigned domain);

#endif
