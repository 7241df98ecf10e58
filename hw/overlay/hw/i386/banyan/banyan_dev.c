/*
 * Domains and late launch: PCI functions 00:18.0 and 00:18.3
 *
 * Where a loader that knows AMD's processors looks for the bit that closes its
 * block to DMA. Made with the chip; what the registers are is the library's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "cpu.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/pci_host.h"
#include "qom/object.h"
#include "banyan/capi/dev.h"
#include "banyan_internal.h"

#define TYPE_BANYAN_DEV "banyan-dev"
OBJECT_DECLARE_SIMPLE_TYPE(BanyanDevState, BANYAN_DEV)

struct BanyanDevState {
    PCIDevice parent_obj;
};

static struct banyan_dev *registers; /* of both functions */

static unsigned asking_domain(void)
{
    return current_cpu ? X86_CPU(current_cpu)->env.domain.active : 0;
}

static bool is_register(PCIDevice *pci_dev, uint32_t address)
{
    if (PCI_FUNC(pci_dev->devfn) == BANYAN_DEV_LINK_FUNCTION) {
        return (address & ~3u) == BANYAN_DEV_SLB_PROTECTION;
    }
    return address >= BANYAN_DEV_CAPABILITY + 4 &&
           address < BANYAN_DEV_CAPABILITY + BANYAN_DEV_CAPABILITY_SIZE;
}

static uint32_t dev_config_read(PCIDevice *pci_dev, uint32_t address, int len)
{
    unsigned domain = asking_domain();
    uint32_t word;

    if (!is_register(pci_dev, address)) {
        return pci_default_read_config(pci_dev, address, len);
    }
    word = banyan_dev_read(registers, domain, PCI_FUNC(pci_dev->devfn),
                           address, banyan_dma_window_closed(domain));
    return extract32(word, (address & 3) * 8, MIN(len, 4 - (address & 3)) * 8);
}

static void dev_config_write(PCIDevice *pci_dev, uint32_t address,
                             uint32_t value, int len)
{
    unsigned domain = asking_domain();

    if (!is_register(pci_dev, address)) {
        if (domain == 0) { /* the rest of the function is the host's */
            pci_default_write_config(pci_dev, address, value, len);
        }
        return;
    }
    if (banyan_dev_write(registers, domain, PCI_FUNC(pci_dev->devfn), address,
                         len, value, banyan_dma_window_closed(domain))) {
        banyan_dma_window(domain, 0, false);
    }
}

static void dev_realize(PCIDevice *pci_dev, Error **errp)
{
    if (PCI_FUNC(pci_dev->devfn) == BANYAN_DEV_FUNCTION) {
        pci_add_capability(pci_dev, BANYAN_DEV_CAPABILITY_ID,
                           BANYAN_DEV_CAPABILITY, BANYAN_DEV_CAPABILITY_SIZE,
                           errp);
    }
}

static void dev_reset(DeviceState *dev)
{
    unsigned domain;

    for (domain = 0; domain <= BANYAN_MAX_DOMAINS; domain++) {
        banyan_dev_forget(domain);
    }
}

static void dev_instance_init(Object *obj)
{
    /* 384h lies in extended configuration space. */
    PCI_DEVICE(obj)->cap_present |= QEMU_PCI_CAP_EXPRESS;
}

static void dev_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);

    k->realize = dev_realize;
    k->config_read = dev_config_read;
    k->config_write = dev_config_write;
    k->vendor_id = PCI_VENDOR_ID_QEMU;
    k->device_id = 0xba18;
    k->class_id = PCI_CLASS_SYSTEM_OTHER;
    dc->desc = "secure loader's DMA closure (made with the vTPM chip)";
    dc->user_creatable = false;
    dc->hotpluggable = false;
    device_class_set_legacy_reset(dc, dev_reset);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

void banyan_dev_forget(unsigned domain)
{
    if (registers) {
        banyan_dev_reset(registers, domain);
    }
}

bool banyan_dev_owns(PCIDevice *pci_dev)
{
    return object_dynamic_cast(OBJECT(pci_dev), TYPE_BANYAN_DEV) != NULL;
}

bool banyan_dev_make(PCIBus *bus, Error **errp)
{
    static const unsigned functions[] = {
        BANYAN_DEV_LINK_FUNCTION, BANYAN_DEV_FUNCTION,
    };
    unsigned i;

    if (banyan_dev_create(&registers)) {
        error_setg(errp, "out of memory");
        return false;
    }
    for (i = 0; i < ARRAY_SIZE(functions); i++) {
        PCIDevice *dev = pci_new_multifunction(
            PCI_DEVFN(BANYAN_DEV_DEVICE, functions[i]), TYPE_BANYAN_DEV);

        if (!pci_realize_and_unref(dev, bus, errp)) {
            return false;
        }
    }
    return true;
}

static const TypeInfo banyan_dev_types[] = {
    {
        .name = TYPE_BANYAN_DEV,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(BanyanDevState),
        .instance_init = dev_instance_init,
        .class_init = dev_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { }
        },
    },
};

DEFINE_TYPES(banyan_dev_types)
