/*
 * Domains and late launch: -device banyan-vtpm, the vTPM's window
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/qdev-properties.h"
#include "qom/object.h"
#include "system/cpu-timers.h"
#include "system/runstate.h"
#include "banyan_internal.h"
#include "trace.h"

#define TYPE_BANYAN_VTPM "banyan-vtpm"
OBJECT_DECLARE_SIMPLE_TYPE(BanyanVtpmState, BANYAN_VTPM)

/* A part of the memory map that is the vTPM's; who reaches what in it is told
 * by the bus tag. */
typedef struct BanyanVtpmArea {
    MemoryRegion region;
    struct banyan_vtpm *vtpm;
    hwaddr base;
    banyan_status (*read)(struct banyan_vtpm *vtpm,
                          const struct banyan_cycle *cycle, uint64_t offset,
                          unsigned width, uint64_t *value);
    banyan_status (*write)(struct banyan_vtpm *vtpm,
                           const struct banyan_cycle *cycle, uint64_t offset,
                           unsigned width, uint64_t value);
} BanyanVtpmArea;

struct BanyanVtpmState {
    DeviceState parent_obj;

    BanyanChip *chip; /* NULL until realized */
    BanyanVtpmArea window;  /* the one that everybody has */
    BanyanVtpmArea further; /* where all others lie */
    char *engine;
    char *platform;
    char *snapshot_key;
    uint32_t instances;
    uint64_t hash_rate;
    uint32_t sync_bound_us;
    BanyanVtpmSetup setup; /* of instance 0 */
    uint32_t irq;
    char *rollback;
    char *require_sandbox;
    OnOffAuto acpi;
};

/*
 * A core's accesses come without the big lock: a doorbell may wait for the
 * engine, and any access for another core of the same instance. Those that QEMU
 * makes in a core's name come with it, and let it go. Under icount one thread
 * runs all cores, so a read finds nobody to wait for. What no core makes keeps
 * it, and reaches no instance.
 */
typedef struct Access {
    struct banyan_cycle cycle;
    BanyanHeldLock held;
    bool locked;   /* when it came */
    bool unlocked; /* for the library */
} Access;

static void access_begin(Access *a, MemTxAttrs attrs, bool may_wait)
{
    a->cycle = banyan_cycle_of(attrs);
    a->locked = bql_locked();
    a->unlocked = a->locked && a->cycle.from_core && may_wait;
    if (a->unlocked) {
        bql_unlock();
    } else if (a->locked) {
        banyan_held_from_here(&a->held);
    }
}

static void access_end(Access *a)
{
    if (a->unlocked) {
        bql_lock();
    }
    banyan_vtpm_irq_settle();
    if (a->locked && !a->unlocked) {
        banyan_held_to_here(&a->held);
        banyan_held_trace(&a->held);
    }
}

static MemTxResult vtpm_read(void *opaque, hwaddr addr, uint64_t *data,
                             unsigned size, MemTxAttrs attrs)
{
    BanyanVtpmArea *area = opaque;
    banyan_status rc;
    Access a;

    access_begin(&a, attrs, !icount_enabled());
    rc = area->read(area->vtpm, &a.cycle, addr, size, data);
    access_end(&a);
    if (rc) {
        *data = ~0ULL;
    }
    trace_banyan_vtpm_read(a.cycle.requester, area->base + addr, size, *data,
                           rc);
    return MEMTX_OK;
}

static MemTxResult vtpm_write(void *opaque, hwaddr addr, uint64_t data,
                              unsigned size, MemTxAttrs attrs)
{
    BanyanVtpmArea *area = opaque;
    banyan_status rc;
    Access a;

    access_begin(&a, attrs, true);
    rc = area->write(area->vtpm, &a.cycle, addr, size, data);
    access_end(&a);
    trace_banyan_vtpm_write(a.cycle.requester, area->base + addr, size, data,
                            rc);
    return MEMTX_OK;
}

static const MemoryRegionOps vtpm_ops = {
    .read_with_attrs = vtpm_read,
    .write_with_attrs = vtpm_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

static void vtpm_map(BanyanVtpmState *s, BanyanVtpmArea *area, const char *name,
                     uint64_t size)
{
    area->vtpm = s->chip->vtpm;
    memory_region_init_io(&area->region, OBJECT(s), &vtpm_ops, area, name,
                          size);
    if (icount_enabled()) { /* the big lock is part of its order */
        area->region.disable_reentrancy_guard = true;
    } else { /* it serves many cores at once; instances have their own locks */
        memory_region_enable_lockless_io(&area->region);
    }
    memory_region_add_subregion_overlap(get_system_memory(), area->base,
                                        &area->region, BANYAN_PINNED);
}

static void vtpm_event(void *opaque, uint32_t instance, const char *kind,
                       const char *text)
{
    trace_banyan_vtpm_event(instance, kind, text);
    warn_report("vTPM instance %" PRIu32 ": %s: %s", instance, kind, text);
}

static void vtpm_command(void *opaque, const struct banyan_vtpm_command *c)
{
    trace_banyan_vtpm_command(c->instance, c->locality, c->code,
                              c->command_size, c->response_size, c->result,
                              c->ns);
}

static void vtpm_locality(void *opaque, uint32_t instance, int32_t from,
                          int32_t to)
{
    trace_banyan_vtpm_locality(instance, from, to);
}

static int64_t vtpm_host_ns(void *opaque)
{
    return get_clock();
}

static void vtpm_realize(DeviceState *dev, Error **errp)
{
    static const struct banyan_vtpm_host_ops ops = {
        .size = sizeof(ops),
        .event = vtpm_event,
        .command = vtpm_command,
        .locality = vtpm_locality,
        .host_ns = vtpm_host_ns,
        .irq = banyan_vtpm_irq_op,
        .look_at = banyan_vtpm_look_at_op,
    };
    BanyanVtpmState *s = BANYAN_VTPM(dev);
    struct banyan_vtpm_config config;
    char *error = NULL;

    if (!banyan_machine_suits(errp)) {
        return;
    }
    s->chip = banyan_chip();
    if (s->chip->vtpm) {
        error_setg(errp, "there is one vTPM chip; give it more instances");
        return;
    }
    if (!s->engine) {
        error_setg(errp, "engine= is missing: the path of banyan-vtpm-engine");
        return;
    }
    if (s->rollback && strcmp(s->rollback, "strict") &&
        strcmp(s->rollback, "report")) {
        error_setg(errp, "rollback= is strict or report");
        return;
    }
    if (s->require_sandbox && strcmp(s->require_sandbox, "any") &&
        strcmp(s->require_sandbox, "full")) {
        error_setg(errp, "require-sandbox= is any or full");
        return;
    }
    config = (struct banyan_vtpm_config) {
        .size = sizeof(config),
        .instances = s->instances,
        .engine = s->engine,
        .platform = s->platform,
        .sync_bound_ns = (uint64_t)s->sync_bound_us * SCALE_US,
        .deterministic = icount_enabled() != ICOUNT_DISABLED,
        .did_vid = s->setup.did_vid,
        .rollback = g_strcmp0(s->rollback, "report") ? BANYAN_ROLLBACK_STRICT
                                                     : BANYAN_ROLLBACK_REPORT,
        .require_sandbox = g_strcmp0(s->require_sandbox, "full")
                               ? BANYAN_SANDBOX_ANY : BANYAN_SANDBOX_FULL,
        .snapshot_key = s->snapshot_key,
        .incoming = runstate_check(RUN_STATE_INMIGRATE),
    };
    if (banyan_vtpm_create(&config, &ops, NULL, &s->chip->vtpm, &error)) {
        error_setg(errp, "the vTPM cannot start: %s",
                   error ? error : "unknown reason");
        free(error);
        return;
    }
    if (!banyan_vtpm_set_up_instance(s->chip->vtpm, 0, &s->setup, s->irq,
                                     errp)) {
        banyan_vtpm_destroy(s->chip->vtpm);
        s->chip->vtpm = NULL;
        return;
    }
    if (!banyan_vtpm_state_init(s->chip, s->instances,
                                s->platform || s->snapshot_key, errp)) {
        return;
    }
    s->chip->hash_rate = s->hash_rate;
    if (!s->platform) {
        banyan_domains_set_insecure(s->chip->domains,
                                    BANYAN_INSECURE_TEST_ENGINE);
    }
    if (config.rollback == BANYAN_ROLLBACK_REPORT) {
        banyan_domains_set_insecure(s->chip->domains,
                                    BANYAN_INSECURE_ROLLBACK_REPORT);
    }
    if (!banyan_chip_make_launch(errp)) {
        return;
    }
    s->chip->acpi = s->acpi;
    s->window.base = BANYAN_VTPM_BASE;
    s->window.read = banyan_vtpm_mmio_read;
    s->window.write = banyan_vtpm_mmio_write;
    vtpm_map(s, &s->window, "banyan-vtpm", BANYAN_VTPM_WINDOW_SIZE);
    s->further.base = BANYAN_VTPM_FURTHER_BASE;
    s->further.read = banyan_vtpm_further_read;
    s->further.write = banyan_vtpm_further_write;
    vtpm_map(s, &s->further, "banyan-vtpm-further", BANYAN_VTPM_FURTHER_SIZE);
}

static void vtpm_unrealize(DeviceState *dev)
{
    BanyanVtpmState *s = BANYAN_VTPM(dev);

    memory_region_del_subregion(get_system_memory(), &s->window.region);
    memory_region_del_subregion(get_system_memory(), &s->further.region);
    banyan_vtpm_irq_unwire();
    banyan_vtpm_destroy(s->chip->vtpm);
    s->chip->vtpm = NULL;
}

static char *vtpm_get_report(Object *obj, Error **errp)
{
    BanyanChip *chip = BANYAN_VTPM(obj)->chip;
    char *json = chip && chip->vtpm ? banyan_vtpm_json(chip->vtpm) : NULL;
    char *copy = g_strdup(json ? json : "{}");

    free(json);
    return copy;
}

static const Property vtpm_properties[] = {
    DEFINE_PROP_STRING("engine", BanyanVtpmState, engine),
    DEFINE_PROP_STRING("platform", BanyanVtpmState, platform),
    DEFINE_PROP_STRING("snapshot-key", BanyanVtpmState, snapshot_key),
    DEFINE_PROP_UINT32("instances", BanyanVtpmState, instances, 1),
    /* SKINIT of 64 KiB took 177.52 ms on the machine of the Flicker paper. */
    DEFINE_PROP_UINT64("hash-rate", BanyanVtpmState, hash_rate, 369175),
    DEFINE_PROP_UINT32("sync-bound-us", BanyanVtpmState, sync_bound_us, 200),
    DEFINE_BANYAN_VTPM_SETUP(BanyanVtpmState, setup),
    DEFINE_PROP_UINT32("irq", BanyanVtpmState, irq, 0),
    DEFINE_PROP_STRING("rollback", BanyanVtpmState, rollback),
    DEFINE_PROP_STRING("require-sandbox", BanyanVtpmState, require_sandbox),
    DEFINE_PROP_ON_OFF_AUTO("acpi", BanyanVtpmState, acpi, ON_OFF_AUTO_AUTO),
};

static void vtpm_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = vtpm_realize;
    dc->unrealize = vtpm_unrealize;
    dc->desc = "vTPM chip: one window, an instance for each domain";
    dc->hotpluggable = false;
    device_class_set_props(dc, vtpm_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_add_str(klass, "report", vtpm_get_report, NULL);
    object_class_property_set_description(klass, "report",
        "instances, states and counters as JSON");
    object_class_property_set_description(klass, "engine",
        "path of the worker executable, banyan-vtpm-engine");
    object_class_property_set_description(klass, "platform",
        "private platform folder; without it keys are of class \"test\"");
    object_class_property_set_description(klass, "snapshot-key",
        "without platform: a file of 32 random bytes that seals snapshots");
    object_class_property_set_description(klass, "instances",
        "number of vTPM instances; 0 is the host's");
    object_class_property_set_description(klass, "hash-rate",
        "bytes per second of a launch's transfer to its instance; 0: no time");
    object_class_property_set_description(klass, "sync-bound-us",
        "longest wait for the engine inside a register write");
    banyan_vtpm_setup_describe(klass);
    object_class_property_set_description(klass, "irq",
        "global system interrupt of instance 0, may be shared; 0: none");
    object_class_property_set_description(klass, "rollback",
        "an older state file is refused (strict, the default) or reported");
    object_class_property_set_description(klass, "require-sandbox",
        "full: no start where the host lacks Landlock or namespaces");
    object_class_property_set_description(klass, "acpi",
        "show the vTPM to firmware and OS; auto: unless there are domains");
}

static const TypeInfo banyan_vtpm_types[] = {
    {
        .name = TYPE_BANYAN_VTPM,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(BanyanVtpmState),
        .class_init = vtpm_class_init,
    },
};

DEFINE_TYPES(banyan_vtpm_types)
