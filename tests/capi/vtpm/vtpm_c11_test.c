/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The C ABI of the vTPM, as a C11 program: what QEMU's adapter relies on. */
#include "banyan/capi/vtpm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(sizeof(struct banyan_cycle) == 16, "layout of a bus cycle");
_Static_assert(sizeof(struct banyan_vtpm_config) == 48, "layout of the configuration");
_Static_assert(sizeof(struct banyan_vtpm_instance_config) == 32, "layout of an instance's configuration");
_Static_assert(sizeof(struct banyan_report_facts) == 240, "layout of the report's facts");

static int failures;

#define CHECK(what)                                                       \
    do {                                                                  \
        if (!(what)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);    \
            ++failures;                                                   \
        }                                                                 \
    } while (0)

static void on_event(void *opaque, uint32_t instance, const char *kind, const char *text)
{
    (void)opaque;
    printf("event %u %s: %s\n", instance, kind, text);
}

static void pause_a_little(void)
{
    const struct timespec some = {0, 200000};
    nanosleep(&some, NULL);
}

int main(int argc, char **argv)
{
    struct banyan_vtpm_config config = {.size = sizeof(config), .instances = 2, .sync_bound_ns = 1000000};
    const struct banyan_vtpm_host_ops ops = {.size = sizeof(ops), .event = on_event};
    const struct banyan_cycle core = {.size = sizeof(core), .requester = 1, .from_core = 1};
    struct banyan_cycle bad_cycle = core;
    struct banyan_vtpm_instance_config choice = {.size = sizeof(choice)};
    struct banyan_report_facts facts = {.size = sizeof(facts)};
    struct banyan_vtpm *vtpm = NULL;
    char *error = NULL;
    uint64_t value = 0;
    uint8_t report[BANYAN_REPORT_MAX];
    uint32_t size = 0;
    banyan_status status;

    if (argc != 2) {
        fprintf(stderr, "usage: %s ENGINE\n", argv[0]);
        return 2;
    }
    CHECK(banyan_vtpm_abi_version() == BANYAN_VTPM_ABI_VERSION);

    /* Arguments that are not there, too small or out of range are refused; nothing crashes. */
    CHECK(banyan_vtpm_create(NULL, &ops, NULL, &vtpm, NULL) < 0);
    config.engine = argv[1];
    config.instances = 1025;
    CHECK(banyan_vtpm_create(&config, &ops, NULL, &vtpm, &error) < 0 && error != NULL);
    free(error);
    config.instances = 2;
    config.size = 8;
    CHECK(banyan_vtpm_create(&config, &ops, NULL, &vtpm, NULL) < 0);
    config.size = sizeof(config);
    banyan_vtpm_destroy(NULL);
    CHECK(banyan_vtpm_json(NULL) == NULL);

    status = banyan_vtpm_create(&config, &ops, NULL, &vtpm, &error);
    if (status != 0) {
        fprintf(stderr, "create: %s\n", error);
        return 1;
    }
    CHECK(banyan_vtpm_mmio_read(vtpm, NULL, 0, 4, &value) < 0);
    bad_cycle.size = 4;
    CHECK(banyan_vtpm_mmio_read(vtpm, &bad_cycle, 0, 4, &value) < 0);
    CHECK(banyan_vtpm_mmio_write(vtpm, &bad_cycle, 0, 4, 1) < 0);
    CHECK(banyan_vtpm_drtm(vtpm, 0, BANYAN_DRTM_DATA, NULL, 5) < 0);
    CHECK(banyan_vtpm_drtm(vtpm, 0, (enum banyan_drtm_step)77, NULL, 0) < 0);
    CHECK(banyan_vtpm_drtm(vtpm, 9, BANYAN_DRTM_START, NULL, 0) < 0);
    CHECK(banyan_vtpm_power_on(vtpm, 2) < 0);
    CHECK(banyan_vtpm_sign_poll(vtpm, 0, report, &size) < 0);
    CHECK(banyan_vtpm_sign(vtpm, 0, NULL) < 0);
    facts.instance = 7;
    CHECK(banyan_vtpm_sign(vtpm, 0, &facts) < 0);

    CHECK(banyan_vtpm_parse(NULL, "crb", NULL) < 0);
    CHECK(banyan_vtpm_parse(&choice, "crb", "sha256+sha384") == 0);
    CHECK(banyan_vtpm_configure(NULL, 1, &choice) < 0);
    CHECK(banyan_vtpm_configure(vtpm, 2, &choice) < 0);
    CHECK(banyan_vtpm_configure(vtpm, 1, NULL) < 0);
    CHECK(banyan_vtpm_configure(vtpm, 1, &choice) == 0);
    choice.interrupts = 1;
    CHECK(banyan_vtpm_configure(vtpm, 1, &choice) < 0);
    CHECK(banyan_vtpm_power_on_held(NULL, 0) < 0);
    CHECK(banyan_vtpm_power_on_held(vtpm, 2) < 0);

    CHECK(banyan_vtpm_instance_state(vtpm, 0) == BANYAN_VTPM_OFF);
    CHECK(banyan_vtpm_power_on(vtpm, 0) == 0);
    while (banyan_vtpm_instance_state(vtpm, 0) == BANYAN_VTPM_STARTING) {
        pause_a_little();
    }
    CHECK(banyan_vtpm_instance_state(vtpm, 0) == BANYAN_VTPM_READY);

    /* One-dimensional sweep: every offset, every width, also those that no bus has. */
    for (uint64_t offset = 0; offset < BANYAN_VTPM_WINDOW_SIZE + 16; ++offset) {
        for (unsigned width = 0; width <= 9; ++width) {
            CHECK(banyan_vtpm_mmio_read(vtpm, &core, offset, width, &value) == 0);
        }
    }
    CHECK(banyan_vtpm_mmio_read(vtpm, &core, UINT64_MAX, 4, &value) == 0 && value == 0xffffffffu);
    CHECK(banyan_vtpm_mmio_read(vtpm, &core, 0xf00, 4, &value) == 0 && value == 0x00011014u);

    CHECK(banyan_vtpm_drtm(vtpm, 0, BANYAN_DRTM_START, NULL, 0) == 0);
    while ((status = banyan_vtpm_drtm_poll(vtpm, 0)) == BANYAN_BUSY) {
        pause_a_little();
    }
    CHECK(status == 0);
    CHECK(banyan_vtpm_drtm(vtpm, 0, BANYAN_DRTM_END, NULL, 0) == 0);
    while ((status = banyan_vtpm_drtm_poll(vtpm, 0)) == BANYAN_BUSY) {
        pause_a_little();
    }
    CHECK(status == 0);

    facts.instance = 0;
    facts.nonce_size = 16;
    memcpy(facts.name, "host", 5);
    CHECK(banyan_vtpm_sign(vtpm, 0, &facts) == 0);
    while ((status = banyan_vtpm_sign_poll(vtpm, 0, report, &size)) == BANYAN_BUSY) {
        pause_a_little();
    }
    CHECK(status == 0 && size > 200 && size <= BANYAN_REPORT_MAX);

    char *json = banyan_vtpm_json(vtpm);
    CHECK(json != NULL && json[0] == '{');
    puts(json);
    free(json);
    banyan_vtpm_destroy(vtpm);
    if (failures == 0) {
        puts("vtpm_c11_test: all checks hold");
    }
    return failures == 0 ? 0 : 1;
}
