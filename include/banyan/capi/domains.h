/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BANYAN_CAPI_DOMAINS_H
#define BANYAN_CAPI_DOMAINS_H

#include "banyan/capi/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The domain table: what each VM is and may touch. Registers and descriptor: include/banyan/arch/domain_table.hpp.
 *
 * Threads: "big lock" functions are called with QEMU's big lock held; "any" functions from any thread without it. The
 * latter read a descriptor that is frozen while its domain is SEALED, RUNNING, STOPPING or DIRTY, and atomic counters.
 */
struct banyan_domains;

/* The machine as the table must know it, to judge descriptors. All in bytes, physical. */
struct banyan_platform {
    uint32_t size;        /* sizeof this struct as the caller was built */
    uint32_t cores;       /* of the machine, core 0 included; core numbers are APIC ids */
    uint64_t ram_below_4g;
    uint64_t ram_above_4g; /* from 4 GiB up */
    uint64_t ecam_base;
    uint64_t ecam_size;
    uint64_t pci_base; /* 32-bit PCI hole outside the ECAM */
    uint64_t pci_size;
    uint32_t insecure; /* bits of enum banyan_insecure that hold for the whole platform */
};

enum banyan_instance_state { BANYAN_INSTANCE_BUSY = 0, BANYAN_INSTANCE_READY = 1, BANYAN_INSTANCE_FAILED = 2 };

/* All called with the big lock held; none may wait, none may call back into banyan_domains_*. */
struct banyan_domains_host_ops {
    uint32_t size;
    /* A domain has one to nine instances. Seal: bind it to vTPM window `window` of the domain, power-cycle it; 0 or negative. */
    banyan_status (*instance_on)(void *opaque, uint32_t domain, uint32_t window, uint32_t instance);
    void (*instance_off)(void *opaque, uint32_t domain, uint32_t instance);    /* power off */
    void (*instance_unbind)(void *opaque, uint32_t domain, uint32_t instance, int erase); /* at delete */
    enum banyan_instance_state (*instance_state)(void *opaque, uint32_t instance);
    void (*stop_cores)(void *opaque, uint32_t domain, uint64_t core_mask); /* raise the stop line */
    void (*launch_cancel)(void *opaque, uint32_t domain);                  /* an open launch ends without entry */
    void (*reach_changed)(void *opaque, uint32_t domain);                  /* rebuild DMA maps, flush every TLB */
    void (*window_lifted)(void *opaque, uint32_t domain);                  /* the guest opened its launch window to DMA */
    int (*window_closed)(void *opaque, uint32_t domain);                   /* 1 while the launch window is closed */
    void (*scrub)(void *opaque, uint64_t hpa, uint64_t size);              /* RAM reads zero afterwards, TBs are gone */
    void (*sha384)(void *opaque, const void *data, size_t size, uint8_t out[BANYAN_DIGEST_SIZE]);
    uint64_t (*wall_time)(void *opaque);
    /* Reports and receipts: slot = domain (report), 16 + domain (receipt). As banyan_vtpm_sign, _sign_poll. */
    banyan_status (*sign)(void *opaque, uint32_t slot, const struct banyan_report_facts *facts);
    banyan_status (*sign_poll)(void *opaque, uint32_t slot, uint8_t *out, uint32_t *size);
};

banyan_status banyan_domains_create(const struct banyan_platform *platform, const struct banyan_domains_host_ops *ops,
                                    void *opaque, struct banyan_domains **out);
void banyan_domains_destroy(struct banyan_domains *domains);
/* Machine reset: BUILDING is dropped, SEALED and later become DIRTY. Big lock. */
void banyan_domains_reset(struct banyan_domains *domains);

/* ---- registers; big lock ---- */
enum banyan_domains_window { BANYAN_WINDOW_OWN = 0, BANYAN_WINDOW_CONTROL = 1 };
banyan_status banyan_domains_mmio_read(struct banyan_domains *domains, const struct banyan_cycle *cycle,
                                       enum banyan_domains_window window, uint64_t offset, unsigned width,
                                       uint64_t *value);
banyan_status banyan_domains_mmio_write(struct banyan_domains *domains, const struct banyan_cycle *cycle,
                                        enum banyan_domains_window window, uint64_t offset, unsigned width,
                                        uint64_t value);

/* ---- cores; big lock ---- */
/* WRMSR of the domain register by host code on `core`: 0, or negative for #GP. */
banyan_status banyan_domains_join(struct banyan_domains *domains, uint32_t core, uint32_t domain);

struct banyan_entry {
    uint32_t size;
    uint32_t eip, eax, ebx, esi;
    uint32_t wait_for_sipi; /* 1: an AP: begins in wait-for-SIPI, not at eip */
};
/* VMRUN on a joined core. 0: the domain is RUNNING, *entry is where to begin. Negative: VMEXIT_INVALID. A core enters
 * once between seal and stop. */
banyan_status banyan_domains_enter(struct banyan_domains *domains, uint32_t core, uint32_t domain,
                                   struct banyan_entry *entry);
/* Every #VMEXIT of a joined core: terminal for the whole domain. shutdown: triple fault; sibling: SKINIT refused. */
enum banyan_exit_cause { BANYAN_EXIT_STOP_LINE = 0, BANYAN_EXIT_SHUTDOWN = 1, BANYAN_EXIT_SIBLING = 2, BANYAN_EXIT_OTHER = 3 };
void banyan_domains_exit(struct banyan_domains *domains, uint32_t core, uint32_t domain, enum banyan_exit_cause cause);

struct banyan_launch_times { /* virtual time, ns */
    uint32_t size;
    int64_t start_ns, hash_start_ns, hash_end_ns, entry_ns;
    int64_t wait_for_other_domain_ns;
};
/* A SKINIT of `domain` completed over an SLB with this SHA-384 (0: the host's). */
void banyan_domains_launched(struct banyan_domains *domains, uint32_t domain, const uint8_t digest[BANYAN_DIGEST_SIZE],
                             const struct banyan_launch_times *times);

/* ---- reach; any thread ---- */
enum banyan_reach { BANYAN_REACH_NONE = 0, BANYAN_REACH_RAM = 1, BANYAN_REACH_MMIO = 2 };
/* The second stage of a domain: the page at guest physical gpa. domain 0: what the host may touch (hpa == gpa). */
enum banyan_reach banyan_domains_translate(const struct banyan_domains *domains, uint32_t domain, uint64_t gpa,
                                           uint64_t *hpa);
/* Whole [gpa, gpa+size) in one RAM range of the domain: 0 and *hpa, else negative. */
banyan_status banyan_domains_ram(const struct banyan_domains *domains, uint32_t domain, uint64_t gpa, uint64_t size,
                                 uint64_t *hpa);
/* RAM range `index` of a domain that is not EMPTY, for DMA maps; negative past the end. Big lock. */
banyan_status banyan_domains_range(const struct banyan_domains *domains, uint32_t domain, uint32_t index, uint64_t *gpa,
                                   uint64_t *hpa, uint64_t *size);
/* 1 while host code and host devices have no reach into the domain's RAM. */
int banyan_domains_closed(const struct banyan_domains *domains, uint32_t domain);
/* The domain that owns the root port bus0:devfn (BUILDING does not count), 0 if the host does. */
uint32_t banyan_domains_of_root_port(const struct banyan_domains *domains, uint8_t devfn);
uint64_t banyan_domains_cores(const struct banyan_domains *domains, uint32_t domain);
/* The vTPM instance bound to a domain that is not EMPTY; 0 for the host and for none. */
uint32_t banyan_domains_instance(const struct banyan_domains *domains, uint32_t domain);
/* Adds bits of enum banyan_insecure that hold for the whole platform from now on. Big lock. */
void banyan_domains_set_insecure(struct banyan_domains *domains, uint32_t bits);

/* ---- access filters; any thread ---- */
/* 1: forward to the bus. 0: denied (counted); a read gives *value. */
int banyan_domains_port(struct banyan_domains *domains, uint32_t domain, uint16_t port, unsigned width, int write,
                        uint32_t *value);
enum banyan_msr_action { BANYAN_MSR_FAULT = 0, BANYAN_MSR_PASS = 1, BANYAN_MSR_CONSTANT = 2 };
/* FAULT and dropped writes are counted. */
enum banyan_msr_action banyan_domains_msr(struct banyan_domains *domains, uint32_t domain, uint32_t msr, int write,
                                          uint64_t *value, uint64_t *write_mask);
enum banyan_denied { BANYAN_DENIED_PORT = 0, BANYAN_DENIED_MMIO = 1, BANYAN_DENIED_INTERRUPT = 2, BANYAN_DENIED_MSR = 3,
                     BANYAN_DENIED_DMA = 4 };
void banyan_domains_deny(struct banyan_domains *domains, uint32_t domain, enum banyan_denied what); /* domain 0 counts too */

/* States and counters as one JSON object. Free with free(). Big lock. */
char *banyan_domains_json(const struct banyan_domains *domains, int64_t vtime_ns);

#ifdef __cplusplus
}
#endif
#endif
