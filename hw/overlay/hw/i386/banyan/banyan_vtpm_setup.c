/*
 * Domains and late launch: what an instance of the vTPM looks like
 *
 * Each device that has an instance gives it its setup: the chip the first one,
 * a window of the host's its own, and -device banyan-vtpm-setup one that
 * domains will have.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qom/object.h"
#include "banyan_internal.h"

#define TYPE_BANYAN_VTPM_SETUP "banyan-vtpm-setup"
OBJECT_DECLARE_SIMPLE_TYPE(BanyanVtpmSetupState, BANYAN_VTPM_SETUP)

struct BanyanVtpmSetupState {
    DeviceState parent_obj;

    uint32_t instance;
    BanyanVtpmSetup setup;
};

BanyanChip *banyan_vtpm_chip(Error **errp)
{
    BanyanChip *chip;

    if (!banyan_machine_suits(errp)) {
        return NULL;
    }
    chip = banyan_chip();
    if (!chip->vtpm) {
        error_setg(errp, "this device needs the vTPM chip first: put "
                   "-device banyan-vtpm before it");
        return NULL;
    }
    return chip;
}

bool banyan_vtpm_set_up_instance(struct banyan_vtpm *vtpm, uint32_t instance,
                                 const BanyanVtpmSetup *setup, uint32_t gsi,
                                 Error **errp)
{
    struct banyan_vtpm_instance_config config = {
        .size = sizeof(config),
        .did_vid = setup->did_vid,
        .interrupts = gsi != 0,
    };
    char *error = NULL;

    if (banyan_vtpm_parse(&config, setup->interface, setup->banks)) {
        error_setg(errp, "interface= is tis or crb; banks= is a list as in "
                   "sha1+sha256+sha384");
        return false;
    }
    if (gsi && !banyan_vtpm_irq_suits(gsi, errp)) {
        return false;
    }
    if (banyan_vtpm_set_up(vtpm, instance, &config, &error)) {
        error_setg(errp, "the vTPM cannot be set up: %s",
                   error ? error : "unknown reason");
        free(error);
        return false;
    }
    if (gsi) {
        banyan_vtpm_irq_wire(vtpm, instance, gsi);
    }
    return true;
}

void banyan_vtpm_setup_describe(ObjectClass *klass)
{
    object_class_property_set_description(klass, "interface",
        "of its instance: tis (the default) or crb");
    object_class_property_set_description(klass, "did-vid",
        "TPM_DID_VID of its instance; 0: the chip's, there the default");
    object_class_property_set_description(klass, "banks",
        "PCR banks of its instance; the default is sha1+sha256+sha384");
}

static void setup_realize(DeviceState *dev, Error **errp)
{
    BanyanVtpmSetupState *s = BANYAN_VTPM_SETUP(dev);
    BanyanChip *chip = banyan_vtpm_chip(errp);

    if (chip) {
        banyan_vtpm_set_up_instance(chip->vtpm, s->instance, &s->setup, 0,
                                    errp);
    }
}

static const Property setup_properties[] = {
    DEFINE_PROP_UINT32("instance", BanyanVtpmSetupState, instance, 0),
    DEFINE_BANYAN_VTPM_SETUP(BanyanVtpmSetupState, setup),
};

static void setup_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = setup_realize;
    dc->desc = "what a domain's vTPM instance looks like";
    dc->hotpluggable = false;
    device_class_set_props(dc, setup_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_set_description(klass, "instance",
        "number of an instance that is behind no window of the host's");
    banyan_vtpm_setup_describe(klass);
}

static const TypeInfo setup_types[] = {
    {
        .name = TYPE_BANYAN_VTPM_SETUP,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(BanyanVtpmSetupState),
        .class_init = setup_class_init,
    },
};

DEFINE_TYPES(setup_types)
