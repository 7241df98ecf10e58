/*
 * Domains and late launch: what devices may reach
 *
 * Every PCI master has an address space of ours: the host's devices see system
 * memory less what belongs to a domain; the devices behind a domain's root
 * port see that domain's RAM at its guest physical addresses, and a message
 * window of their own. No property of a device has a say.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "hw/boards.h"
#include "hw/i386/apic.h"
#include "hw/i386/apic-msidef.h"
#include "hw/i386/x86.h"
#include "hw/nvram/fw_cfg.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/pci_host.h"
#include "hw/qdev-core.h"
#include "hw/virtio/virtio-bus.h"
#include "banyan_internal.h"
#include "trace.h"

#define MAX_RANGES 4
#define MSI_SIZE 0x100000ULL

/* A domain's RAM as its devices see it. */
typedef struct DomainView {
    uint32_t domain;
    MemoryRegion root;
    MemoryRegion nothing; /* under all: reads ones, counts */
    MemoryRegion range[MAX_RANGES];
    MemoryRegion msi;
    MemoryRegion window; /* over all: the closed launch window */
    MemoryRegion hole[MAX_RANGES]; /* the same RAM, closed to the host */
    bool window_closed;
} DomainView;

/* What is behind one root port: the host's, until a domain owns it. */
typedef struct PortView {
    PCIDevice *port;
    uint32_t owner;
    bool live;  /* the owner's RAM can be reached */
    bool owned; /* a domain had it: nothing it began may end in the host */
    MemoryRegion root;
    MemoryRegion host;
    MemoryRegion domain[BANYAN_MAX_DOMAINS + 1];
    AddressSpace as;
} PortView;

static BanyanChip *dma_chip;
static DomainView view[BANYAN_MAX_DOMAINS + 1]; /* [0]: the host's */
static AddressSpace host_as;
static AddressSpace processor_as; /* as host_as, without the launch window */
static MemoryRegion host_root;
static MemoryRegion host_ram[2]; /* below and above 4 GiB */
static MemoryRegion host_msi;
/* RAM again, over what software could lay over it; there from the start, so
 * that the cores' memory map never changes while they run. */
static MemoryRegion pin_low, pin_high;
#define PIN_LOW_BASE (16 * MiB) /* below are the windows of the legacy PC */
static PortView *ports[PCI_DEVFN_MAX];

static unsigned number_of(void *opaque)
{
    return (uintptr_t)opaque;
}

static MemTxResult denied_read(void *opaque, hwaddr addr, uint64_t *data,
                               unsigned size, MemTxAttrs attrs)
{
    trace_banyan_dma_denied(number_of(opaque), addr, 0);
    banyan_domains_deny(dma_chip->domains, number_of(opaque),
                        BANYAN_DENIED_DMA);
    *data = ~0ULL;
    return MEMTX_OK;
}

static MemTxResult denied_write(void *opaque, hwaddr addr, uint64_t data,
                                unsigned size, MemTxAttrs attrs)
{
    trace_banyan_dma_denied(number_of(opaque), addr, 1);
    banyan_domains_deny(dma_chip->domains, number_of(opaque),
                        BANYAN_DENIED_DMA);
    return MEMTX_OK;
}

static const MemoryRegionOps denied_ops = {
    .read_with_attrs = denied_read,
    .write_with_attrs = denied_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

static MemTxResult msi_write(void *opaque, hwaddr addr, uint64_t data,
                             unsigned size, MemTxAttrs attrs)
{
    bool delivered = size == 4 &&
                     apic_domain_msi(number_of(opaque),
                                     APIC_DEFAULT_ADDRESS | addr, data);

    trace_banyan_dma_msi(number_of(opaque), addr, data, delivered);
    if (!delivered) {
        banyan_deny_interrupt(number_of(opaque));
    }
    return MEMTX_OK;
}

static const MemoryRegionOps msi_ops = {
    .read_with_attrs = denied_read,
    .write_with_attrs = msi_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

/* The root port on bus 0 that a bus lies behind; NULL for bus 0 itself. */
static PCIDevice *root_port_of(PCIBus *bus)
{
    PCIDevice *port = NULL;

    while (!pci_bus_is_root(bus)) {
        port = pci_bridge_get_device(bus);
        bus = pci_get_bus(port);
    }
    return port;
}

static PortView *port_view(PCIDevice *port)
{
    PortView *p = ports[port->devfn];
    unsigned d;

    if (!p) {
        p = ports[port->devfn] = g_new0(PortView, 1);
        p->port = port;
        memory_region_init(&p->root, OBJECT(port), "banyan-dma-port",
                           UINT64_MAX);
        memory_region_init_alias(&p->host, OBJECT(port), "banyan-dma-host",
                                 &view[0].root, 0, UINT64_MAX);
        memory_region_add_subregion(&p->root, 0, &p->host);
        for (d = 1; d <= BANYAN_MAX_DOMAINS; d++) {
            memory_region_init_alias(&p->domain[d], OBJECT(port),
                                     "banyan-dma-domain", &view[d].root, 0,
                                     UINT64_MAX);
            memory_region_set_enabled(&p->domain[d], false);
            memory_region_add_subregion_overlap(&p->root, 0, &p->domain[d], 1);
        }
        address_space_init(&p->as, &p->root, "banyan-dma-port");
    }
    return p;
}

static AddressSpace *dma_address_space(PCIBus *bus, void *opaque, int devfn)
{
    PCIDevice *port = root_port_of(bus);

    return port ? &port_view(port)->as : &host_as;
}

/*
 * Functions behind an owned root port are configured by the owner's cores
 * alone; the port itself, which the host may look at, by nobody until the
 * domain is deleted.
 */
static bool config_allowed(PCIDevice *pci_dev, bool write)
{
    PCIDevice *port = root_port_of(pci_get_bus(pci_dev));
    unsigned asks = current_cpu ? X86_CPU(current_cpu)->env.domain.active : 0;
    uint32_t owner;

    if (banyan_dev_owns(pci_dev)) {
        return true; /* it has a bank for each domain */
    }
    if (!port) {
        return asks == 0 &&
               (!write || banyan_domains_of_root_port(dma_chip->domains,
                                           pci_dev->devfn) == 0);
    }
    owner = banyan_domains_of_root_port(dma_chip->domains, port->devfn);
    return asks == owner;
}

/* INTx ends at the host's interrupt controllers: a domain's devices use MSI. */
static bool intx_allowed(PCIDevice *pci_dev)
{
    PCIDevice *port = root_port_of(pci_get_bus(pci_dev));

    if (port && banyan_domains_of_root_port(dma_chip->domains, port->devfn)) {
        banyan_deny_interrupt(banyan_domains_of_root_port(dma_chip->domains,
                                                          port->devfn));
        return false;
    }
    return true;
}

static const PCIIOMMUOps dma_ops = {
    .get_address_space = dma_address_space,
};

void banyan_dma_update(void)
{
    unsigned d, i, devfn;

    /* Nothing that one owner began may end in the next one's memory. */
    for (devfn = 0; devfn < PCI_DEVFN_MAX; devfn++) {
        PortView *p = ports[devfn];

        if (p) {
            uint32_t owner = banyan_domains_of_root_port(dma_chip->domains,
                                                         devfn);
            uint64_t gpa, hpa, size;
            bool live = owner &&
                        !banyan_domains_range(dma_chip->domains, owner, 0,
                                              &gpa, &hpa, &size) &&
                        !banyan_domains_ram(dma_chip->domains, owner, gpa,
                                            TARGET_PAGE_SIZE, &hpa);

            if (p->owner != owner || p->live != live) {
                bus_cold_reset(BUS(pci_bridge_get_sec_bus(
                    PCI_BRIDGE(p->port))));
                p->owner = owner;
                p->live = live;
                p->owned |= owner != 0;
            }
        }
    }

    memory_region_transaction_begin();
    for (d = 1; d <= BANYAN_MAX_DOMAINS; d++) {
        bool closed = banyan_domains_closed(dma_chip->domains, d);

        for (i = 0; i < MAX_RANGES; i++) {
            uint64_t gpa, hpa, size;
            bool used = closed &&
                        banyan_domains_range(dma_chip->domains, d, i, &gpa,
                                             &hpa, &size) == BANYAN_OK;

            memory_region_set_enabled(&view[d].range[i],
                used && banyan_domains_ram(dma_chip->domains, d, gpa, size,
                                           &hpa) == BANYAN_OK);
            memory_region_set_enabled(&view[d].hole[i], used);
            if (used) {
                memory_region_set_size(&view[d].range[i], size);
                memory_region_set_alias_offset(&view[d].range[i],
                                               banyan_ram_offset(hpa));
                memory_region_set_address(&view[d].range[i], gpa);
                memory_region_set_size(&view[d].hole[i], size);
                memory_region_set_address(&view[d].hole[i], hpa);
            }
        }
    }
    for (devfn = 0; devfn < PCI_DEVFN_MAX; devfn++) {
        if (ports[devfn]) {
            uint32_t owner = ports[devfn]->owner;

            memory_region_set_enabled(&ports[devfn]->host,
                                      owner == 0 && !ports[devfn]->owned);
            for (d = 1; d <= BANYAN_MAX_DOMAINS; d++) {
                memory_region_set_enabled(&ports[devfn]->domain[d],
                                          d == owner);
            }
        }
    }
    memory_region_transaction_commit();
}

AddressSpace *banyan_host_memory(CPUState *cs, MemTxAttrs attrs)
{
    return banyan_enabled ? &processor_as : cpu_addressspace(cs, attrs);
}

void banyan_dma_window(uint32_t domain, uint64_t slb, bool closed)
{
    DomainView *v = &view[domain];

    trace_banyan_dma_window(domain, slb, closed);
    if (!closed && !v->window_closed) {
        return;
    }
    memory_region_transaction_begin();
    if (closed) {
        memory_region_set_address(&v->window, slb);
    }
    memory_region_set_enabled(&v->window, closed);
    v->window_closed = closed;
    memory_region_transaction_commit();
}

bool banyan_dma_window_closed(uint32_t domain)
{
    return view[domain].window_closed;
}

static void view_init(DomainView *v, unsigned domain)
{
    void *number = (void *)(uintptr_t)domain;
    unsigned i;

    v->domain = domain;
    memory_region_init(&v->root, NULL, "banyan-dma-view", UINT64_MAX);
    memory_region_init_io(&v->window, NULL, &denied_ops, number,
                          "banyan-launch-window", BANYAN_SLB_SIZE);
    memory_region_set_enabled(&v->window, false);
    memory_region_add_subregion_overlap(&v->root, 0, &v->window, 10);
    if (domain == 0) {
        memory_region_init_alias(&v->range[0], NULL, "banyan-dma-system",
                                 &host_root, 0, UINT64_MAX);
        memory_region_add_subregion(&v->root, 0, &v->range[0]);
        return;
    }

    memory_region_init_io(&v->nothing, NULL, &denied_ops, number,
                          "banyan-dma-nothing", UINT64_MAX);
    memory_region_add_subregion_overlap(&v->root, 0, &v->nothing, -1);
    memory_region_init_io(&v->msi, NULL, &msi_ops, number, "banyan-dma-msi",
                          MSI_SIZE);
    memory_region_add_subregion_overlap(&v->root, APIC_DEFAULT_ADDRESS,
                                        &v->msi, 1);
    for (i = 0; i < MAX_RANGES; i++) {
        memory_region_init_alias(&v->range[i], NULL, "banyan-dma-ram",
                                 current_machine->ram, 0, TARGET_PAGE_SIZE);
        memory_region_set_enabled(&v->range[i], false);
        memory_region_add_subregion(&v->root, 0, &v->range[i]);
        /* A domain's RAM is a hole in what the host's devices see. */
        memory_region_init_io(&v->hole[i], NULL, &denied_ops, (void *)0,
                              "banyan-dma-hole", TARGET_PAGE_SIZE);
        memory_region_set_enabled(&v->hole[i], false);
        memory_region_add_subregion_overlap(&host_root, 0, &v->hole[i], 5);
    }
}

/* The host's masters reach RAM and the local APICs' messages. */
static void host_init(void)
{
    X86MachineState *machine = X86_MACHINE(qdev_get_machine());
    uint64_t low = machine->below_4g_mem_size;

    memory_region_init(&host_root, NULL, "banyan-host", UINT64_MAX);
    memory_region_init_io(&view[0].nothing, NULL, &denied_ops, (void *)0,
                          "banyan-host-nothing", UINT64_MAX);
    memory_region_add_subregion_overlap(&host_root, 0, &view[0].nothing, -1);
    memory_region_init_alias(&host_ram[0], NULL, "banyan-host-low",
                             current_machine->ram, 0, low);
    memory_region_add_subregion(&host_root, 0, &host_ram[0]);
    if (machine->above_4g_mem_size) {
        memory_region_init_alias(&host_ram[1], NULL, "banyan-host-high",
                                 current_machine->ram, low,
                                 machine->above_4g_mem_size);
        memory_region_add_subregion(&host_root, 4 * GiB, &host_ram[1]);
    }
    memory_region_init_alias(&pin_low, NULL, "banyan-pin-low",
                             current_machine->ram, PIN_LOW_BASE,
                             low - PIN_LOW_BASE);
    memory_region_add_subregion_overlap(get_system_memory(), PIN_LOW_BASE,
                                        &pin_low, BANYAN_PINNED);
    if (machine->above_4g_mem_size) {
        memory_region_init_alias(&pin_high, NULL, "banyan-pin-high",
                                 current_machine->ram, low,
                                 machine->above_4g_mem_size);
        memory_region_add_subregion_overlap(get_system_memory(), 4 * GiB,
                                            &pin_high, BANYAN_PINNED);
    }
    memory_region_init_alias(&host_msi, NULL, "banyan-host-msi",
                             get_system_memory(), APIC_DEFAULT_ADDRESS,
                             MSI_SIZE);
    memory_region_add_subregion(&host_root, APIC_DEFAULT_ADDRESS, &host_msi);
    address_space_init(&processor_as, &host_root, "banyan-processor");
}

bool banyan_dma_init(BanyanChip *chip)
{
    Object *host = object_resolve_path_type("", TYPE_PCI_HOST_BRIDGE, NULL);
    FWCfgState *fw_cfg = fw_cfg_find();
    unsigned d;

    dma_chip = chip;
    host_init();
    for (d = 0; d <= BANYAN_MAX_DOMAINS; d++) {
        view_init(&view[d], d);
    }
    address_space_init(&host_as, &view[0].root, "banyan-dma-host");
    if (host) {
        pci_setup_iommu(PCI_HOST_BRIDGE(host)->bus, &dma_ops, NULL);
        pci_host_config_filter = config_allowed;
        pci_intx_filter = intx_allowed;
        if (!phase_check(PHASE_MACHINE_READY)) {
            /* Else a SKINIT without any device of ours has made the chip. */
            banyan_dev_make(PCI_HOST_BRIDGE(host)->bus, &error_fatal);
        }
    }
    if (fw_cfg) {
        fw_cfg->dma_as = &host_as;
    }
    virtio_bus_dma_filtered = true;
    return host != NULL;
}
