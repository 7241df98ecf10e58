/*
 * Domains and late launch: what firmware tables say of the vTPM
 *
 * TCG ACPI Specification 1.4: a TPM2 table, and in an SSDT a device for each
 * window of the host's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "hw/acpi/aml-build.h"
#include "hw/i386/x86.h"
#include "hw/nvram/fw_cfg.h"
#include "qom/object.h"
#include "banyan_internal.h"

/* Firmware writes its log there, and an OS finds it through the TPM2 table. */
#define LOG_FILE "etc/banyan/tpm-log"
#define LOG_SIZE (64 * KiB)
#define PLATFORM_CLASS_CLIENT 0

/*
 * With domains the first instance is the hypervisor's, and firmware that
 * measured into it would change what evidence says of its launch.
 */
static bool shown(const BanyanChip *chip)
{
    if (chip->acpi == ON_OFF_AUTO_AUTO) {
        bool ambiguous = false;

        return !object_resolve_path_type("", "banyan-domains", &ambiguous) &&
               !ambiguous;
    }
    return chip->acpi == ON_OFF_AUTO_ON;
}

static void add_log(BanyanChip *chip, BIOSLinker *linker)
{
    if (!chip->acpi_log) {
        X86MachineState *machine = X86_MACHINE(qdev_get_machine());

        chip->acpi_log = g_array_new(false, true, 1);
        acpi_data_push(chip->acpi_log, LOG_SIZE);
        fw_cfg_add_file(machine->fw_cfg, LOG_FILE, chip->acpi_log->data,
                        chip->acpi_log->len);
    }
    bios_linker_loader_alloc(linker, LOG_FILE, chip->acpi_log, 1, false);
}

static void build_tpm2_table(GArray *tables, BIOSLinker *linker,
                             const struct banyan_vtpm_description *d,
                             const char *oem_id, const char *oem_table_id)
{
    AcpiTable table = { .sig = "TPM2", .rev = 4,
                        .oem_id = oem_id, .oem_table_id = oem_table_id };
    unsigned log_address;

    acpi_table_begin(&table, tables);
    build_append_int_noprefix(tables, PLATFORM_CLASS_CLIENT, 2);
    build_append_int_noprefix(tables, 0, 2); /* reserved */
    build_append_int_noprefix(tables, d->control_area, 8);
    build_append_int_noprefix(tables, d->start_method, 4);
    acpi_data_push(tables, 12); /* parameters of the start method: none */
    build_append_int_noprefix(tables, LOG_SIZE, 4);
    log_address = tables->len;
    build_append_int_noprefix(tables, 0, 8);
    bios_linker_loader_add_pointer(linker, ACPI_BUILD_TABLE_FILE, log_address,
                                   8, LOG_FILE, 0);
    acpi_table_end(linker, &table);
}

static Aml *window_device(uint32_t number,
                          const struct banyan_vtpm_description *d)
{
    Aml *dev = aml_device("TP%.02X", number);
    Aml *crs = aml_resource_template();
    uint32_t gsi = banyan_vtpm_irq_of(d->instance);

    aml_append(crs, aml_memory32_fixed(d->base, d->length, AML_READ_WRITE));
    if (gsi) {
        aml_append(crs, aml_interrupt(AML_CONSUMER, AML_LEVEL, AML_ACTIVE_HIGH,
                                      AML_SHARED, &gsi, 1));
    }
    aml_append(dev, aml_name_decl("_HID", aml_string("%s", d->hid)));
    aml_append(dev, aml_name_decl("_UID", aml_int(number)));
    aml_append(dev, aml_name_decl("_STA", aml_int(0xF)));
    aml_append(dev, aml_name_decl("_CRS", crs));
    return dev;
}

static void build_ssdt(GArray *tables, BIOSLinker *linker,
                       struct banyan_vtpm *vtpm, const char *oem_id,
                       const char *oem_table_id)
{
    AcpiTable table = { .sig = "SSDT", .rev = 2,
                        .oem_id = oem_id, .oem_table_id = oem_table_id };
    struct banyan_vtpm_description d = { .size = sizeof(d) };
    Aml *ssdt, *scope;
    uint32_t number;

    acpi_table_begin(&table, tables);
    ssdt = init_aml_allocator();
    scope = aml_scope("\\_SB");
    for (number = 0; !banyan_vtpm_describe(vtpm, number, &d); number++) {
        aml_append(scope, window_device(number, &d));
    }
    aml_append(ssdt, scope);
    g_array_append_vals(tables, ssdt->buf->data, ssdt->buf->len);
    free_aml_allocator();
    acpi_table_end(linker, &table);
}

void banyan_acpi_tables(GArray *offsets, GArray *tables, BIOSLinker *linker,
                        const char *oem_id, const char *oem_table_id)
{
    struct banyan_vtpm_description first = { .size = sizeof(first) };
    BanyanChip *chip;

    if (!banyan_enabled) {
        return;
    }
    chip = banyan_chip();
    if (!chip->vtpm || !shown(chip) ||
        banyan_vtpm_describe(chip->vtpm, 0, &first)) {
        return;
    }
    banyan_vtpm_expect_firmware(chip->vtpm);
    add_log(chip, linker);
    acpi_add_table(offsets, tables);
    build_tpm2_table(tables, linker, &first, oem_id, oem_table_id);
    acpi_add_table(offsets, tables);
    build_ssdt(tables, linker, chip->vtpm, oem_id, oem_table_id);
}
