/*
 * Domains and late launch: -device banyan-vtpm-window, one more TPM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/qdev-properties.h"
#include "qom/object.h"
#include "banyan_internal.h"

#define TYPE_BANYAN_VTPM_WINDOW "banyan-vtpm-window"
OBJECT_DECLARE_SIMPLE_TYPE(BanyanVtpmWindowState, BANYAN_VTPM_WINDOW)

struct BanyanVtpmWindowState {
    DeviceState parent_obj;

    BanyanVtpmSetup setup;
    uint32_t instance;
    uint32_t irq;
    uint64_t addr;
};

static void window_realize(DeviceState *dev, Error **errp)
{
    BanyanVtpmWindowState *s = BANYAN_VTPM_WINDOW(dev);
    BanyanChip *chip = banyan_vtpm_chip(errp);
    uint32_t number;
    char *error = NULL;

    if (!chip || !banyan_vtpm_set_up_instance(chip->vtpm, s->instance,
                                              &s->setup, s->irq, errp)) {
        return;
    }
    if (banyan_vtpm_add_window(chip->vtpm, s->instance, s->addr, &number,
                               &error)) {
        error_setg(errp, "the vTPM window cannot be made: %s",
                   error ? error : "unknown reason");
        free(error);
        return;
    }
}

static const Property window_properties[] = {
    DEFINE_PROP_UINT32("instance", BanyanVtpmWindowState, instance, 0),
    DEFINE_BANYAN_VTPM_SETUP(BanyanVtpmWindowState, setup),
    DEFINE_PROP_UINT32("irq", BanyanVtpmWindowState, irq, 0),
    DEFINE_PROP_UINT64("addr", BanyanVtpmWindowState, addr, 0),
};

static void window_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = window_realize;
    dc->desc = "one more TPM of the machine: a window with an instance of its own";
    dc->hotpluggable = false;
    device_class_set_props(dc, window_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_set_description(klass, "instance",
        "number of the vTPM chip's instance behind it");
    object_class_property_set_description(klass, "addr",
        "physical address; 0: the next free place");
    object_class_property_set_description(klass, "irq",
        "global system interrupt, may be shared; 0: none");
    banyan_vtpm_setup_describe(klass);
}

static const TypeInfo window_types[] = {
    {
        .name = TYPE_BANYAN_VTPM_WINDOW,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(BanyanVtpmWindowState),
        .class_init = window_class_init,
    },
};

DEFINE_TYPES(window_types)
