/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The C ABI of the vTPM, as a C11 program: what QEMU's adapter relies on. */
#include "banyan/capi/vtpm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(sizeof(struct banyan_cycle) == 16, "layout of a bus cycle");
_Static_assert(sizeof(struct banyan_vtpm_config) == 64, "layout of the configuration");
_Static_assert(sizeof(struct banyan_vtpm_instance_config) == 32, "layout of an instance's configuration");
_Static_assert(sizeof(struct banyan_vtpm_command) == 40, "layout of a command's record");
_Static_assert(sizeof(struct banyan_vtpm_description) == 56, "layout of a window's description");
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

static unsigned commands;
static unsigned localities;

static void on_command(void *opaque, const struct banyan_vtpm_command *command)
{
    (void)opaque;
    ++commands;
    CHECK(command->size == sizeof(*command) && command->instance < 2 && command->locality < 5);
}

static void on_locality(void *opaque, uint32_t instance, int32_t from, int32_t to)
{
    (void)opaque;
    ++localities;
    CHECK(instance < 2 && from != to && from >= -1 && from < 5 && to >= -1 && to < 5);
}

static int64_t host_ns(void *opaque)
{
    struct timespec now;

    (void)opaque;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void pause_a_little(void)
{
    const struct timespec some = {0, 200000};
    nanosleep(&some, NULL);
}

/* Instance 1 behind a window of the host's: a TPM of its own there, for the host's tag alone. */
static void check_windows(struct banyan_vtpm *vtpm)
{
    const struct banyan_cycle host = {.size = sizeof(host), .requester = 1, .from_core = 1};
    const struct banyan_cycle domain = {.size = sizeof(domain), .requester = 2, .from_core = 1};
    const struct banyan_cycle device = {.size = sizeof(device), .requester = 1};
    struct banyan_vtpm_description d = {.size = sizeof(d)};
    uint32_t window = 0;
    uint64_t value = 0;
    char *error = NULL;
    const struct banyan_vtpm_instance_config tis = {.size = sizeof(tis)};

    CHECK(banyan_vtpm_add_window(vtpm, 1, 0, &window, NULL) < 0); /* a CRB so far */
    CHECK(banyan_vtpm_configure(vtpm, 1, &tis) == 0);
    CHECK(banyan_vtpm_add_window(NULL, 1, 0, &window, NULL) < 0);
    CHECK(banyan_vtpm_add_window(vtpm, 1, 0, NULL, NULL) < 0);
    CHECK(banyan_vtpm_add_window(vtpm, 2, 0, &window, &error) < 0 && error != NULL);
    free(error);
    CHECK(banyan_vtpm_describe(vtpm, 1, &d) < 0);
    CHECK(banyan_vtpm_add_window(vtpm, 1, 0, &window, NULL) == 0 && window == 1);
    CHECK(banyan_vtpm_add_window(vtpm, 1, 0, &window, NULL) < 0);

    CHECK(banyan_vtpm_describe(vtpm, 0, &d) == 0 && d.instance == 0 && d.base == 0xfed40000u && d.length == 0x5000u);
    CHECK(banyan_vtpm_describe(vtpm, 1, &d) == 0 && d.instance == 1 && d.base == 0xfed60000u && d.length == 0x5000u);
    CHECK(d.start_method == 6 && d.control_area == 0 && strcmp(d.hid, "MSFT0101") == 0);
    CHECK(banyan_vtpm_describe(vtpm, 2, &d) < 0);
    CHECK(banyan_vtpm_describe(vtpm, UINT32_MAX, &d) < 0);
    d.size = 8;
    CHECK(banyan_vtpm_describe(vtpm, 0, &d) < 0);

    CHECK(banyan_vtpm_expect_firmware(NULL) < 0);
    CHECK(banyan_vtpm_expect_firmware(vtpm) == 0);
    CHECK(banyan_vtpm_reset(NULL) < 0);
    CHECK(banyan_vtpm_reset(vtpm) == 0);
    for (uint32_t i = 0; i < 2; ++i) {
        while (banyan_vtpm_instance_state(vtpm, i) == BANYAN_VTPM_STARTING) {
            pause_a_little();
        }
        CHECK(banyan_vtpm_instance_state(vtpm, i) == BANYAN_VTPM_READY);
    }

    CHECK(banyan_vtpm_further_read(vtpm, &host, 0xf00, 4, &value) == 0 && value == 0x00011014u);
    CHECK(banyan_vtpm_further_read(vtpm, &domain, 0xf00, 4, &value) == 0 && value == 0xffffffffu);
    CHECK(banyan_vtpm_further_read(vtpm, &device, 0xf00, 4, &value) == 0 && value == 0xffffffffu);
    CHECK(banyan_vtpm_further_read(vtpm, &host, 0x5000 + 0xf00, 4, &value) == 0 && value == 0xffffffffu);
    CHECK(banyan_vtpm_further_read(vtpm, &host, UINT64_MAX - 8, 4, &value) == 0 && value == 0xffffffffu);
    CHECK(banyan_vtpm_further_write(vtpm, &host, UINT64_MAX - 8, 1, 2) == 0);
    CHECK(banyan_vtpm_further_write(vtpm, NULL, 0, 1, 2) < 0);

    CHECK(banyan_vtpm_further_write(vtpm, &host, 0, 1, 2) == 0); /* requestUse: active there, not in the first */
    CHECK(banyan_vtpm_further_read(vtpm, &host, 0, 1, &value) == 0 && (value & 0x20) != 0);
    CHECK(banyan_vtpm_mmio_read(vtpm, &host, 0, 1, &value) == 0 && (value & 0x20) == 0);
    CHECK(banyan_vtpm_bind(vtpm, 1, 1) < 0); /* no domain gets it */
    CHECK(banyan_vtpm_further_write(vtpm, &host, 0x18, 1, 0x40) == 0);
    for (unsigned i = 0; i < 12; ++i) {
        static const uint8_t get_random[12] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8};
        CHECK(banyan_vtpm_further_write(vtpm, &host, 0x24, 1, get_random[i]) == 0);
    }
    CHECK(banyan_vtpm_further_write(vtpm, &host, 0x18, 1, 0x20) == 0);
    do {
        pause_a_little();
        CHECK(banyan_vtpm_further_read(vtpm, &host, 0x18, 1, &value) == 0);
    } while ((value & 0x10) == 0);
}

/* One TPM2 table describes the first window; what stands beside a command response buffer goes by another name. */
static void check_descriptions(struct banyan_vtpm *vtpm)
{
    struct banyan_vtpm_instance_config crb = {.size = sizeof(crb), .interface = BANYAN_VTPM_CRB};
    struct banyan_vtpm_description d = {.size = sizeof(d)};

    for (uint32_t i = 0; i < 2; ++i) {
        CHECK(banyan_vtpm_power_off(vtpm, i) == 0);
        while (banyan_vtpm_instance_state(vtpm, i) == BANYAN_VTPM_STOPPING) {
            pause_a_little();
        }
    }
    CHECK(banyan_vtpm_configure(vtpm, 1, &crb) < 0); /* it is behind a further window */
    CHECK(banyan_vtpm_configure(vtpm, 0, &crb) == 0);
    CHECK(banyan_vtpm_describe(vtpm, 0, &d) == 0 && d.start_method == 7 && d.control_area == 0xfed40040u);
    CHECK(strcmp(d.hid, "MSFT0101") == 0);
    CHECK(banyan_vtpm_describe(vtpm, 1, &d) == 0 && d.start_method == 6 && d.control_area == 0);
    CHECK(strcmp(d.hid, "PNP0C31") == 0);
}

int main(int argc, char **argv)
{
    struct banyan_vtpm_config config = {.size = sizeof(config), .instances = 2, .sync_bound_ns = 1000000};
    const struct banyan_vtpm_host_ops ops = {
        .size = sizeof(ops), .event = on_event, .command = on_command, .locality = on_locality, .host_ns = host_ns};
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

    check_windows(vtpm);
    CHECK(commands > 0 && localities > 0);

    /* Snapshot: without a key a sentence, and nothing has changed. */
    uint8_t *saved = NULL;
    size_t saved_size = 0;
    char *why = NULL;
    CHECK(banyan_vtpm_save(NULL, 0, 0, &saved, &saved_size, &why) < 0 && why == NULL);
    CHECK(banyan_vtpm_save(vtpm, 0, 0, NULL, &saved_size, NULL) < 0);
    CHECK(banyan_vtpm_save(vtpm, 0, 0, &saved, &saved_size, &why) < 0 && why != NULL && saved == NULL);
    CHECK(why != NULL && strstr(why, "snapshot-key") != NULL);
    free(why);
    why = NULL;
    CHECK(banyan_vtpm_load(NULL, report, 10, NULL) < 0);
    CHECK(banyan_vtpm_load(vtpm, NULL, 10, NULL) < 0);
    CHECK(banyan_vtpm_load(vtpm, report, 10, &why) < 0 && why != NULL);
    free(why);
    CHECK(banyan_vtpm_run(NULL, NULL) < 0);
    CHECK(banyan_vtpm_run(vtpm, NULL) == 0);
    CHECK(banyan_vtpm_instance_state(vtpm, 0) == BANYAN_VTPM_READY);

    char *json = banyan_vtpm_json(vtpm);
    CHECK(json != NULL && json[0] == '{');
    puts(json);
    free(json);
    check_descriptions(vtpm);
    banyan_vtpm_destroy(vtpm);
    if (failures == 0) {
        puts("vtpm_c11_test: all checks hold");
    }
    return failures == 0 ? 0 : 1;
}
