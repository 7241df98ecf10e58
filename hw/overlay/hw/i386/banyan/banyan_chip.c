/*
 * Domains and late launch: the chip behind the devices
 *
 * Table, launch machine and vTPM of libbanyan stand on one chip; banyan_vtpm.c
 * and banyan_domains.c are the devices that show it. Adapter only: each
 * decision is the library's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qemu/error-report.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "cpu.h"
#include "crypto/hash.h"
#include "exec/address-spaces.h"
#include "exec/cputlb.h"
#include "exec/exec-all.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/i386/apic_internal.h"
#include "hw/i386/x86.h"
#include "hw/pci/pci.h"
#include "system/cpu-timers.h"
#include "system/reset.h"
#include "banyan_internal.h"
#include "trace.h"

/* MCH_HOST_BRIDGE_PCIEXBAR as SeaBIOS programs it on q35. */
#define ECAM_BASE 0xB0000000ULL
#define ECAM_SIZE 0x10000000ULL
#define PCI_HOLE_BASE 0xC0000000ULL
#define PCI_HOLE_SIZE 0x3EC00000ULL

static BanyanChip *chip;
static MemoryRegion black_hole;

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

struct banyan_cycle banyan_cycle_of(MemTxAttrs attrs)
{
    return (struct banyan_cycle) {
        .size = sizeof(struct banyan_cycle),
        .requester = attrs.requester,
        .from_core = attrs.from_core,
        .core = current_cpu ? X86_CPU(current_cpu)->apic_id : 0,
        .vtime_ns = now_ns(),
    };
}

/* ---- what the library asks of the machine ---- */

static banyan_status op_instance_on(void *opaque, uint32_t domain,
                                    uint32_t window, uint32_t instance)
{
    banyan_status rc;

    if (!chip->vtpm) {
        return BANYAN_OK; /* the table reports that the instance failed */
    }
    rc = banyan_vtpm_bind_window(chip->vtpm, domain, window, instance);
    if (!rc) {
        rc = banyan_vtpm_power_on(chip->vtpm, instance);
    }
    if (rc) {
        banyan_vtpm_unbind(chip->vtpm, domain);
    }
    return rc;
}

static void op_instance_off(void *opaque, uint32_t domain, uint32_t instance)
{
    if (chip->vtpm) {
        banyan_vtpm_power_off(chip->vtpm, instance);
    }
}

static void op_instance_unbind(void *opaque, uint32_t domain,
                               uint32_t instance, int erase)
{
    if (chip->vtpm) {
        banyan_vtpm_power_off(chip->vtpm, instance);
        banyan_vtpm_unbind(chip->vtpm, domain);
        if (erase) {
            banyan_vtpm_erase(chip->vtpm, instance);
        }
    }
}

static enum banyan_instance_state op_instance_state(void *opaque,
                                                    uint32_t instance)
{
    if (!chip->vtpm) {
        return BANYAN_INSTANCE_FAILED;
    }
    switch (banyan_vtpm_instance_state(chip->vtpm, instance)) {
    case BANYAN_VTPM_READY:
        return BANYAN_INSTANCE_READY;
    case BANYAN_VTPM_STARTING:
    case BANYAN_VTPM_STOPPING:
        return BANYAN_INSTANCE_BUSY;
    default:
        return BANYAN_INSTANCE_FAILED;
    }
}

static void op_stop_cores(void *opaque, uint32_t domain, uint64_t core_mask)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        X86CPU *cpu = X86_CPU(cs);

        if (cpu->env.domain.active == domain) {
            banyan_cpu_raise(cpu, BANYAN_EVENT_STOP);
        }
    }
}

static void op_launch_cancel(void *opaque, uint32_t domain)
{
    timer_del(chip->launch_timer[domain]);
    banyan_launch_cancel(chip->launch, domain);
    if (!domain) {
        banyan_vtpm_state_launch(false);
    }
}

static void flush_tlb(CPUState *cs, run_on_cpu_data data)
{
    tlb_flush(cs);
}

static void op_reach_changed(void *opaque, uint32_t domain)
{
    CPUState *cs;

    banyan_dev_forget(domain);
    banyan_dma_update();
    if (current_cpu) {
        tlb_flush_all_cpus_synced(current_cpu);
    } else {
        CPU_FOREACH(cs) {
            async_run_on_cpu(cs, flush_tlb, RUN_ON_CPU_NULL);
        }
    }
}

static void op_window_lifted(void *opaque, uint32_t domain)
{
    banyan_dma_window(domain, 0, false);
}

static int op_window_closed(void *opaque, uint32_t domain)
{
    return banyan_dma_window_closed(domain);
}

uint64_t banyan_ram_offset(uint64_t hpa)
{
    X86MachineState *machine = X86_MACHINE(qdev_get_machine());

    return hpa < 4 * GiB ? hpa : hpa - 4 * GiB + machine->below_4g_mem_size;
}

/* From the RAM itself: what software laid over it in the map has no say. */
static void op_scrub(void *opaque, uint64_t hpa, uint64_t size)
{
    MemoryRegion *ram = current_machine->ram;
    RAMBlock *block = ram->ram_block;
    uint64_t offset = banyan_ram_offset(hpa);

    assert(offset + size <= memory_region_size(ram));
    tb_invalidate_phys_range(block->offset + offset,
                             block->offset + offset + size - 1);
    if (ram_block_discard_range(block, offset, size)) {
        memset(block->host + offset, 0, size);
    }
    memory_region_set_dirty(ram, offset, size);
}

static void op_sha384(void *opaque, const void *data, size_t size,
                      uint8_t out[BANYAN_DIGEST_SIZE])
{
    g_autofree uint8_t *digest = NULL;
    size_t length = 0;

    qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA384, data, size, &digest, &length,
                       &error_abort);
    assert(length == BANYAN_DIGEST_SIZE);
    memcpy(out, digest, length);
}

static uint64_t op_wall_time(void *opaque)
{
    return qemu_clock_get_ns(QEMU_CLOCK_HOST) / NANOSECONDS_PER_SECOND;
}

static banyan_status op_sign(void *opaque, uint32_t slot,
                             const struct banyan_report_facts *facts)
{
    return chip->vtpm ? banyan_vtpm_sign(chip->vtpm, slot, facts) : -1;
}

static banyan_status op_sign_poll(void *opaque, uint32_t slot, uint8_t *out,
                                  uint32_t *size)
{
    return chip->vtpm ? banyan_vtpm_sign_poll(chip->vtpm, slot, out, size) : -1;
}

/* ---- launch ---- */

static uint32_t instance_of(uint32_t domain)
{
    return banyan_domains_instance(chip->domains, domain);
}

static void op_window(void *opaque, uint32_t domain, uint64_t slb, int closed)
{
    banyan_dma_window(domain, slb, closed);
}

/*
 * The digest of a launch's block is computed by a thread of its own: it takes
 * longer than anything may under the BQL. A job that a newer one has replaced
 * frees itself.
 */
typedef struct DigestJob {
    QemuThread thread;
    QemuEvent done;
    bool ready;
    int refs; /* thread and chip */
    size_t size;
    uint8_t digest[BANYAN_DIGEST_SIZE];
    uint8_t data[BANYAN_SLB_SIZE];
} DigestJob;

static DigestJob *digest_job[BANYAN_MAX_DOMAINS + 1];

static void digest_unref(DigestJob *job)
{
    if (qatomic_fetch_dec(&job->refs) == 1) {
        qemu_event_destroy(&job->done);
        g_free(job);
    }
}

static void *digest_thread(void *opaque)
{
    DigestJob *job = opaque;

    op_sha384(NULL, job->data, job->size, job->digest);
    qatomic_store_release(&job->ready, true);
    qemu_event_set(&job->done);
    digest_unref(job);
    return NULL;
}

static void op_digest_begin(void *opaque, uint32_t domain, const void *data,
                            size_t size)
{
    DigestJob *job = g_new(DigestJob, 1);

    assert(size <= sizeof(job->data));
    if (digest_job[domain]) {
        digest_unref(digest_job[domain]);
    }
    job->refs = 2;
    job->ready = false;
    job->size = size;
    memcpy(job->data, data, size);
    qemu_event_init(&job->done, false);
    digest_job[domain] = job;
    qemu_thread_create(&job->thread, "banyan-digest", digest_thread, job,
                       QEMU_THREAD_DETACHED);
}

static banyan_status op_digest_poll(void *opaque, uint32_t domain,
                                    uint8_t out[BANYAN_DIGEST_SIZE])
{
    DigestJob *job = digest_job[domain];

    /* Under icount how long the host takes must not show. */
    if (icount_enabled()) {
        qemu_event_wait(&job->done);
    }
    if (!qatomic_load_acquire(&job->ready)) {
        return BANYAN_BUSY;
    }
    memcpy(out, job->digest, BANYAN_DIGEST_SIZE);
    return BANYAN_OK;
}

static int op_drained(void *opaque, uint32_t domain)
{
    /*
     * Certified as insecure:dma-drain until requests in flight are waited for.
     * The bus of an instance that is not up yet holds the transfer.
     */
    return !chip->vtpm ||
           banyan_vtpm_instance_state(chip->vtpm, instance_of(domain))
               != BANYAN_VTPM_STARTING;
}

/* Where the block lies, if it is all RAM of the domain. */
static bool slb_address(uint32_t domain, uint64_t slb, uint64_t *hpa)
{
    MemoryRegionSection section;
    bool ram;

    if (domain) {
        return banyan_domains_ram(chip->domains, domain, slb, BANYAN_SLB_SIZE,
                                  hpa) == BANYAN_OK;
    }
    section = memory_region_find(get_system_memory(), slb, BANYAN_SLB_SIZE);
    ram = section.mr && memory_region_is_ram(section.mr) &&
          !section.readonly && int128_get64(section.size) == BANYAN_SLB_SIZE &&
          banyan_domains_ram(chip->domains, 0, slb, BANYAN_SLB_SIZE, hpa)
              == BANYAN_OK;
    if (section.mr) {
        memory_region_unref(section.mr);
    }
    return ram;
}

static banyan_status op_read_slb(void *opaque, uint32_t domain, uint64_t slb,
                                 uint8_t out[BANYAN_SLB_SIZE])
{
    uint64_t hpa;

    if (!slb_address(domain, slb, &hpa) ||
        address_space_read(&address_space_memory, hpa, MEMTXATTRS_UNSPECIFIED,
                           out, BANYAN_SLB_SIZE) != MEMTX_OK) {
        return -1;
    }
    return BANYAN_OK;
}

static banyan_status op_drtm(void *opaque, uint32_t domain, uint32_t step,
                             const void *data, uint32_t size)
{
    return chip->vtpm ? banyan_vtpm_drtm(chip->vtpm, instance_of(domain), step,
                                         data, size) : -1;
}

static banyan_status op_drtm_poll(void *opaque, uint32_t domain)
{
    return chip->vtpm ? banyan_vtpm_drtm_poll(chip->vtpm, instance_of(domain))
                      : -1;
}

static void op_enter(void *opaque, uint32_t core, uint32_t domain,
                     const struct banyan_launch_entry *entry,
                     const uint8_t digest[BANYAN_DIGEST_SIZE],
                     const struct banyan_launch_times *times)
{
    X86CPU *cpu = banyan_core(core);
    CPUState *cs;

    if (!cpu || cpu->env.domain.active != domain || !cpu->env.domain.parked) {
        return; /* the core has left meanwhile */
    }
    banyan_domains_launched(chip->domains, domain, digest, times);
    cpu->env.domain.slb = entry->slb;
    cpu->env.domain.slb_eip = entry->eip;
    CPU_FOREACH(cs) {
        X86CPU *other = X86_CPU(cs);

        if (other != cpu && other->env.domain.active == domain) {
            other->env.domain.sipi_launched = true;
        }
    }
    banyan_cpu_raise(cpu, BANYAN_EVENT_SLB);
}

static void launch_tick(void *opaque)
{
    uint32_t domain = (uintptr_t)opaque;
    int64_t next;

    if (banyan_launch_tick(chip->launch, domain, now_ns(), &next)
        == BANYAN_BUSY) {
        timer_mod(chip->launch_timer[domain], next);
    } else if (!domain) {
        banyan_vtpm_state_launch(false);
    }
}

banyan_status banyan_chip_skinit(X86CPU *cpu, uint32_t slb)
{
    uint32_t domain = cpu->env.domain.active;
    uint64_t hpa;
    int64_t next;
    banyan_status rc;

    if (!slb_address(domain, slb, &hpa)) {
        return -1;
    }
    rc = banyan_launch_begin(chip->launch, cpu->apic_id, domain, slb, now_ns(),
                             &next);
    if (rc >= 0) {
        timer_mod(chip->launch_timer[domain], next);
        if (!domain) { /* a machine with domains is never saved */
            banyan_vtpm_state_launch(true);
        }
        rc = BANYAN_OK;
    }
    return rc;
}

/* ---- the chip ---- */

static MemTxResult black_hole_read(void *opaque, hwaddr addr, uint64_t *data,
                                   unsigned size, MemTxAttrs attrs)
{
    banyan_domains_deny(chip->domains,
                        attrs.requester ? attrs.requester - 1 : 0,
                        BANYAN_DENIED_MMIO);
    *data = ~0ULL;
    return MEMTX_OK;
}

static MemTxResult black_hole_write(void *opaque, hwaddr addr, uint64_t data,
                                    unsigned size, MemTxAttrs attrs)
{
    banyan_domains_deny(chip->domains,
                        attrs.requester ? attrs.requester - 1 : 0,
                        BANYAN_DENIED_MMIO);
    return MEMTX_OK;
}

static const MemoryRegionOps black_hole_ops = {
    .read_with_attrs = black_hole_read,
    .write_with_attrs = black_hole_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

static void chip_reset(void *opaque)
{
    CPUState *cs;
    uint32_t domain;

    for (domain = 0; domain <= BANYAN_MAX_DOMAINS; domain++) {
        timer_del(chip->launch_timer[domain]);
        banyan_dma_window(domain, 0, false);
    }
    banyan_launch_reset(chip->launch);
    banyan_vtpm_state_launch(false);
    banyan_domains_reset(chip->domains);
    CPU_FOREACH(cs) {
        banyan_cpu_machine_reset(X86_CPU(cs));
    }
    if (chip->vtpm) {
        banyan_vtpm_reset(chip->vtpm);
    }
}

bool banyan_chip_make_launch(Error **errp)
{
    static const struct banyan_launch_host_ops launch_ops = {
        .size = sizeof(launch_ops),
        .window = op_window,
        .drained = op_drained,
        .read_slb = op_read_slb,
        .drtm = op_drtm,
        .drtm_poll = op_drtm_poll,
        .digest_begin = op_digest_begin,
        .digest_poll = op_digest_poll,
        .enter = op_enter,
    };
    const struct banyan_launch_config config = {
        .size = sizeof(config),
        .hash_rate = chip->hash_rate,
        .serial = chip->serial_launch,
        .poll_ns = 20 * SCALE_US,
    };
    struct banyan_launch *launch;

    if (banyan_launch_create(&config, &launch_ops, NULL, &launch)) {
        error_setg(errp, "banyan: the launch machine cannot be made");
        return false;
    }
    banyan_launch_destroy(chip->launch);
    chip->launch = launch;
    return true;
}

BanyanChip *banyan_chip(void)
{
    static const struct banyan_domains_host_ops domain_ops = {
        .size = sizeof(domain_ops),
        .instance_on = op_instance_on,
        .instance_off = op_instance_off,
        .instance_unbind = op_instance_unbind,
        .instance_state = op_instance_state,
        .stop_cores = op_stop_cores,
        .launch_cancel = op_launch_cancel,
        .reach_changed = op_reach_changed,
        .window_lifted = op_window_lifted,
        .window_closed = op_window_closed,
        .scrub = op_scrub,
        .sha384 = op_sha384,
        .wall_time = op_wall_time,
        .sign = op_sign,
        .sign_poll = op_sign_poll,
    };
    X86MachineState *machine;
    struct banyan_platform platform;
    uint32_t domain;

    if (chip) {
        return chip;
    }
    chip = g_new0(BanyanChip, 1);
    machine = X86_MACHINE(qdev_get_machine());
    platform = (struct banyan_platform) {
        .size = sizeof(platform),
        .cores = MACHINE(machine)->smp.cpus,
        .ram_below_4g = machine->below_4g_mem_size,
        .ram_above_4g = machine->above_4g_mem_size,
        .ecam_base = ECAM_BASE,
        .ecam_size = ECAM_SIZE,
        .pci_base = PCI_HOLE_BASE,
        .pci_size = PCI_HOLE_SIZE,
        .insecure = BANYAN_INSECURE_DMA_DRAIN,
    };
    if (banyan_domains_create(&platform, &domain_ops, NULL, &chip->domains)) {
        error_report("banyan: the domain table cannot be made");
        exit(1);
    }
    for (domain = 0; domain <= BANYAN_MAX_DOMAINS; domain++) {
        chip->launch_timer[domain] = timer_new_ns(QEMU_CLOCK_VIRTUAL,
                                                  launch_tick,
                                                  (void *)(uintptr_t)domain);
    }
    memory_region_init_io(&black_hole, NULL, &black_hole_ops, NULL,
                          "banyan-black-hole", BANYAN_BLACK_HOLE_SIZE);
    memory_region_add_subregion_overlap(get_system_memory(),
                                        BANYAN_BLACK_HOLE_BASE, &black_hole,
                                        BANYAN_PINNED);
    chip->dma_filtered = banyan_dma_init(chip);
    banyan_chip_make_launch(&error_abort);
    qemu_register_reset(chip_reset, NULL);
    banyan_enabled = true;
    return chip;
}

bool banyan_machine_suits(Error **errp)
{
    if (!object_dynamic_cast(qdev_get_machine(), TYPE_X86_MACHINE)) {
        error_setg(errp, "this device needs an x86 PC, for example -M q35");
        return false;
    }
    if (!current_machine->ram || !current_machine->ram->ram_block ||
        X86_MACHINE(qdev_get_machine())->below_4g_mem_size <= 16 * MiB) {
        error_setg(errp, "this device needs one plain RAM backend of more than "
                   "16 MiB, not NUMA nodes with their own");
        return false;
    }
    if (!tcg_enabled()) {
        error_setg(errp, "this device needs -accel tcg: late launch and "
                   "domains are emulated in the processor");
        return false;
    }
    return true;
}
