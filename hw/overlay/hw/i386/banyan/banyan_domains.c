/*
 * Domains and late launch: -device banyan-domains, the domain table's windows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/i386/x86.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio.h"
#include "migration/blocker.h"
#include "qom/object.h"
#include "system/system.h"
#include "banyan_internal.h"
#include "trace.h"

#define TYPE_BANYAN_DOMAINS "banyan-domains"
OBJECT_DECLARE_SIMPLE_TYPE(BanyanDomainsState, BANYAN_DOMAINS)

struct BanyanDomainsState {
    DeviceState parent_obj;

    BanyanChip *chip; /* NULL until realized */
    MemoryRegion own;
    MemoryRegion control;
    char *launch_arbiter;
    Error *blocker;
    Notifier init_done;
};

static uint64_t table_read(BanyanDomainsState *s,
                           enum banyan_domains_window window, hwaddr addr,
                           unsigned size, MemTxAttrs attrs)
{
    const struct banyan_cycle cycle = banyan_cycle_of(attrs);
    uint64_t value;

    if (banyan_domains_mmio_read(s->chip->domains, &cycle, window, addr, size,
                                 &value)) {
        value = ~0ULL;
    }
    trace_banyan_table_read(cycle.requester, window, addr, size, value);
    return value;
}

static void table_write(BanyanDomainsState *s,
                        enum banyan_domains_window window, hwaddr addr,
                        uint64_t data, unsigned size, MemTxAttrs attrs)
{
    const struct banyan_cycle cycle = banyan_cycle_of(attrs);

    trace_banyan_table_write(cycle.requester, window, addr, size, data);
    banyan_domains_mmio_write(s->chip->domains, &cycle, window, addr, size,
                              data);
}

static MemTxResult own_read(void *opaque, hwaddr addr, uint64_t *data,
                            unsigned size, MemTxAttrs attrs)
{
    *data = table_read(opaque, BANYAN_WINDOW_OWN, addr, size, attrs);
    return MEMTX_OK;
}

static MemTxResult own_write(void *opaque, hwaddr addr, uint64_t data,
                             unsigned size, MemTxAttrs attrs)
{
    table_write(opaque, BANYAN_WINDOW_OWN, addr, data, size, attrs);
    return MEMTX_OK;
}

static MemTxResult control_read(void *opaque, hwaddr addr, uint64_t *data,
                                unsigned size, MemTxAttrs attrs)
{
    *data = table_read(opaque, BANYAN_WINDOW_CONTROL, addr, size, attrs);
    return MEMTX_OK;
}

static MemTxResult control_write(void *opaque, hwaddr addr, uint64_t data,
                                 unsigned size, MemTxAttrs attrs)
{
    table_write(opaque, BANYAN_WINDOW_CONTROL, addr, data, size, attrs);
    return MEMTX_OK;
}

static int find_unfiltered_virtio(Object *child, void *opaque)
{
    VirtIODevice *vdev = (VirtIODevice *)object_dynamic_cast(
        child, TYPE_VIRTIO_DEVICE);

    return vdev && vdev->dma_as == &address_space_memory;
}

/* Masters that no PCI filter sees, and IOMMUs that would take its place. */
static void refuse_unfiltered(Notifier *notifier, void *data)
{
    static const char *const refused[] = {
        "virtio-balloon-device", "virtio-mem", "virtio-iommu-device",
        "intel-iommu", "amd-iommu", "isa-fdc", "sb16", "cs4231a", "vmgenid",
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(refused); i++) {
        bool ambiguous = false;

        if (object_class_by_name(refused[i]) &&
            (object_resolve_path_type("", refused[i], &ambiguous) ||
             ambiguous)) {
            error_report("banyan-domains: %s reaches memory around the DMA "
                         "filter; take it off this machine", refused[i]);
            exit(1);
        }
    }
    if (object_child_foreach_recursive(object_get_root(),
                                       find_unfiltered_virtio, NULL)) {
        error_report("banyan-domains: name -device banyan-vtpm and "
                     "banyan-domains before any virtio device, or its DMA "
                     "goes around the filter");
        exit(1);
    }
}

static const MemoryRegionOps own_ops = {
    .read_with_attrs = own_read,
    .write_with_attrs = own_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

static const MemoryRegionOps control_ops = {
    .read_with_attrs = control_read,
    .write_with_attrs = control_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

static void domains_realize(DeviceState *dev, Error **errp)
{
    BanyanDomainsState *s = BANYAN_DOMAINS(dev);
    bool serial = !g_strcmp0(s->launch_arbiter, "serial");

    if (!banyan_machine_suits(errp)) {
        return;
    }
    if (s->launch_arbiter && !serial &&
        g_strcmp0(s->launch_arbiter, "parallel")) {
        error_setg(errp, "launch-arbiter=%s: must be parallel or serial",
                   s->launch_arbiter);
        return;
    }
    if (object_resolve_path_type("", TYPE_BANYAN_DOMAINS, NULL) == NULL) {
        error_setg(errp, "there is one domain table");
        return;
    }
    s->chip = banyan_chip();
    if (!s->chip->dma_filtered) {
        error_setg(errp, "domains need a machine with one PCI host bridge, for "
                   "example -M q35: their devices' DMA is filtered there");
        return;
    }
    if (x86_machine_is_smm_enabled(X86_MACHINE(qdev_get_machine()))) {
        error_setg(errp, "domains have no system management mode: add "
                   "smm=off to -M");
        return;
    }
    error_setg(&s->blocker, "the domain table cannot be saved: a domain's "
               "launch belongs to this machine");
    if (migrate_add_blocker(&s->blocker, errp) < 0) {
        return;
    }
    s->init_done.notify = refuse_unfiltered;
    qemu_add_machine_init_done_notifier(&s->init_done);
    banyan_virtual_tsc = true;
    s->chip->serial_launch = serial;
    if (serial) {
        banyan_domains_set_insecure(s->chip->domains,
                                    BANYAN_INSECURE_SERIAL_ARBITER);
    }
    if (!banyan_chip_make_launch(errp)) {
        return;
    }
    memory_region_init_io(&s->own, OBJECT(s), &own_ops, s, "banyan-own-page",
                          BANYAN_OWN_SIZE);
    memory_region_init_io(&s->control, OBJECT(s), &control_ops, s,
                          "banyan-control", BANYAN_CONTROL_SIZE);
    /* Commands reach cores and DMA maps, never these windows. */
    s->own.disable_reentrancy_guard = true;
    s->control.disable_reentrancy_guard = true;
    memory_region_add_subregion_overlap(get_system_memory(), BANYAN_OWN_BASE,
                                        &s->own,
                                        BANYAN_PINNED);
    memory_region_add_subregion_overlap(get_system_memory(),
                                        BANYAN_CONTROL_BASE, &s->control,
                                        BANYAN_PINNED);
}

static char *domains_get_report(Object *obj, Error **errp)
{
    BanyanChip *chip = BANYAN_DOMAINS(obj)->chip;
    char *json = chip ? banyan_domains_json(chip->domains,
                            qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL)) : NULL;
    char *copy = g_strdup(json ? json : "{}");

    free(json);
    return copy;
}

static const Property domains_properties[] = {
    DEFINE_PROP_STRING("launch-arbiter", BanyanDomainsState, launch_arbiter),
};

static void domains_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = domains_realize;
    dc->desc = "domain table: what each VM is and may touch";
    dc->hotpluggable = false;
    device_class_set_props(dc, domains_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_add_str(klass, "report", domains_get_report, NULL);
    object_class_property_set_description(klass, "report",
        "domains, launches and counters as JSON");
    object_class_property_set_description(klass, "launch-arbiter",
        "parallel (default), or serial: one launch at a time, as a control");
}

static const TypeInfo banyan_domains_types[] = {
    {
        .name = TYPE_BANYAN_DOMAINS,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(BanyanDomainsState),
        .class_init = domains_class_init,
    },
};

DEFINE_TYPES(banyan_domains_types)
