/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The domain table from C11: create, seal over the control window, run, translate, filter, stop, delete. */
#include "banyan/capi/domains.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

struct world {
    unsigned on, off, unbind, stopped, cancelled, reach, lifted, scrubbed, signs;
    struct banyan_report_facts facts;
};

static banyan_status instance_on(void *opaque, uint32_t domain, uint32_t window, uint32_t instance)
{
    (void)domain;
    (void)window;
    (void)instance;
    ((struct world *)opaque)->on++;
    return 0;
}
static void instance_off(void *opaque, uint32_t domain, uint32_t instance)
{
    (void)domain;
    (void)instance;
    ((struct world *)opaque)->off++;
}
static void instance_unbind(void *opaque, uint32_t domain, uint32_t instance, int erase)
{
    (void)domain;
    (void)instance;
    (void)erase;
    ((struct world *)opaque)->unbind++;
}
static enum banyan_instance_state instance_state(void *opaque, uint32_t instance)
{
    (void)opaque;
    (void)instance;
    return BANYAN_INSTANCE_READY;
}
static void stop_cores(void *opaque, uint32_t domain, uint64_t core_mask)
{
    (void)domain;
    (void)core_mask;
    ((struct world *)opaque)->stopped++;
}
static void launch_cancel(void *opaque, uint32_t domain)
{
    (void)domain;
    ((struct world *)opaque)->cancelled++;
}
static void reach_changed(void *opaque, uint32_t domain)
{
    (void)domain;
    ((struct world *)opaque)->reach++;
}
static void window_lifted(void *opaque, uint32_t domain)
{
    (void)domain;
    ((struct world *)opaque)->lifted++;
}
static int window_closed(void *opaque, uint32_t domain)
{
    (void)opaque;
    (void)domain;
    return 0;
}
static void scrub(void *opaque, uint64_t hpa, uint64_t size)
{
    (void)hpa;
    (void)size;
    ((struct world *)opaque)->scrubbed++;
}
static void sha384(void *opaque, const void *data, size_t size, uint8_t out[BANYAN_DIGEST_SIZE])
{
    (void)opaque;
    memset(out, size ? ((const uint8_t *)data)[0] : 0, BANYAN_DIGEST_SIZE);
}
static uint64_t wall_time(void *opaque)
{
    (void)opaque;
    return 1700000000u;
}
static banyan_status sign(void *opaque, uint32_t slot, const struct banyan_report_facts *facts)
{
    struct world *world = opaque;
    (void)slot;
    world->signs++;
    world->facts = *facts;
    return 0;
}
static banyan_status sign_poll(void *opaque, uint32_t slot, uint8_t *out, uint32_t *size)
{
    (void)opaque;
    (void)slot;
    if (*size < BANYAN_REPORT_MAX) {
        return -1;
    }
    memset(out, 0xC0, 4);
    *size = 4;
    return 0;
}

static const struct banyan_platform platform = {
    .size = sizeof(struct banyan_platform),
    .cores = 4,
    .ram_below_4g = 0x80000000u,
    .ram_above_4g = 0,
    .ecam_base = 0xB0000000u,
    .ecam_size = 0x10000000u,
    .pci_base = 0xC0000000u,
    .pci_size = 0x3EC00000u,
    .insecure = BANYAN_INSECURE_DMA_DRAIN,
};

static const struct banyan_domains_host_ops ops = {
    .size = sizeof(struct banyan_domains_host_ops),
    .instance_on = instance_on,
    .instance_off = instance_off,
    .instance_unbind = instance_unbind,
    .instance_state = instance_state,
    .stop_cores = stop_cores,
    .launch_cancel = launch_cancel,
    .reach_changed = reach_changed,
    .window_lifted = window_lifted,
    .window_closed = window_closed,
    .scrub = scrub,
    .sha384 = sha384,
    .wall_time = wall_time,
    .sign = sign,
    .sign_poll = sign_poll,
};

static const struct banyan_cycle host_core = {.size = sizeof(struct banyan_cycle), .requester = 1, .from_core = 1};
static const struct banyan_cycle guest_core = {
    .size = sizeof(struct banyan_cycle), .requester = 2, .from_core = 1, .core = 1};
static const struct banyan_cycle nobody = {.size = sizeof(struct banyan_cycle)};

static uint64_t control(struct banyan_domains *domains, uint64_t offset, unsigned width)
{
    uint64_t value = 0xDEAD;
    if (banyan_domains_mmio_read(domains, &host_core, BANYAN_WINDOW_CONTROL, offset, width, &value) != BANYAN_OK) {
        return 0xBAD;
    }
    return value;
}

static void control_write(struct banyan_domains *domains, uint64_t offset, unsigned width, uint64_t value)
{
    (void)banyan_domains_mmio_write(domains, &host_core, BANYAN_WINDOW_CONTROL, offset, width, value);
}

/* Offsets of the descriptor, from docs/spec/domain-table.md: from C there is no struct. */
static void write_descriptor(struct banyan_domains *domains)
{
    const uint64_t d = 0x1000;
    control_write(domains, d + 0, 4, 0x56594E42);
    control_write(domains, d + 4, 2, 2);
    control_write(domains, d + 6, 2, 840);
    control_write(domains, d + 8, 1, 'a');
    control_write(domains, d + 40, 8, 2); /* core mask */
    control_write(domains, d + 48, 4, 1); /* boot core */
    control_write(domains, d + 52, 4, 1); /* vTPM instance */
    control_write(domains, d + 56, 4, 1); /* flags: debug */
    control_write(domains, d + 60, 4, 1); /* MSR profile */
    control_write(domains, d + 64, 4, 1); /* port profile */
    control_write(domains, d + 68, 4, 1); /* ranges */
    control_write(domains, d + 88, 4, 0x20000);
    control_write(domains, d + 104, 8, 0);
    control_write(domains, d + 112, 8, 0x20000000);
    control_write(domains, d + 120, 8, 0x10000000);
}

static int bad_arguments(void)
{
    struct banyan_domains *domains = NULL;
    struct banyan_platform p = platform;
    struct banyan_domains_host_ops o = ops;
    uint64_t value = 0;
    CHECK(banyan_domains_create(NULL, &ops, NULL, &domains) < 0);
    CHECK(banyan_domains_create(&platform, NULL, NULL, &domains) < 0);
    CHECK(banyan_domains_create(&platform, &ops, NULL, NULL) < 0);
    p.size = 4;
    CHECK(banyan_domains_create(&p, &ops, NULL, &domains) < 0);
    p = platform;
    p.cores = 0;
    CHECK(banyan_domains_create(&p, &ops, NULL, &domains) < 0);
    p.cores = 65;
    CHECK(banyan_domains_create(&p, &ops, NULL, &domains) < 0);
    p = platform;
    p.pci_size = UINT64_MAX;
    CHECK(banyan_domains_create(&p, &ops, NULL, &domains) < 0);
    o.size -= sizeof(void *);
    CHECK(banyan_domains_create(&platform, &o, NULL, &domains) < 0);
    o = ops;
    o.sign = NULL;
    CHECK(banyan_domains_create(&platform, &o, NULL, &domains) < 0);
    CHECK(domains == NULL);
    CHECK(banyan_domains_mmio_read(NULL, &host_core, BANYAN_WINDOW_OWN, 0, 4, &value) < 0);
    banyan_domains_destroy(NULL);
    return 0;
}

int main(void)
{
    struct world world = {0};
    struct banyan_domains *domains = NULL;
    struct banyan_entry entry = {.size = sizeof(entry)};
    const uint8_t digest[BANYAN_DIGEST_SIZE] = {7};
    const struct banyan_launch_times times = {.size = sizeof(times), .start_ns = 1, .entry_ns = 2};
    uint64_t value = 0, hpa = 0, gpa = 0, size = 0, mask = 0;
    uint32_t port = 0;
    char *json;

    if (bad_arguments() != 0) {
        return 1;
    }
    CHECK(banyan_domains_create(&platform, &ops, &world, &domains) == BANYAN_OK && domains != NULL);
    banyan_domains_set_insecure(domains, BANYAN_INSECURE_DEVICE_IRQ);

    CHECK(banyan_domains_mmio_read(domains, &nobody, BANYAN_WINDOW_CONTROL, 0, 4, &value) == BANYAN_OK);
    CHECK(value == 0xFFFFFFFFu);
    CHECK(banyan_domains_mmio_read(domains, NULL, BANYAN_WINDOW_CONTROL, 0, 4, &value) < 0);
    CHECK(banyan_domains_mmio_write(domains, &host_core, (enum banyan_domains_window)9, 0, 4, 0) < 0);
    CHECK(control(domains, 0, 4) == 0x44594E42u && control(domains, 8, 4) == BANYAN_MAX_DOMAINS);

    control_write(domains, 0x10, 4, 1);
    control_write(domains, 0x14, 4, 1);
    write_descriptor(domains);
    CHECK(!banyan_domains_closed(domains, 1));
    control_write(domains, 0x14, 4, 2);
    CHECK(control(domains, 0x18, 4) == 0 && control(domains, 0x1C, 4) == 2 && world.on == 1);
    CHECK(banyan_domains_closed(domains, 1) && banyan_domains_instance(domains, 1) == 1);
    CHECK(banyan_domains_cores(domains, 1) == 2 && banyan_domains_cores(domains, 0) == 0xF);
    CHECK(banyan_domains_of_root_port(domains, 8) == 0);

    CHECK(banyan_domains_join(domains, 2, 1) < 0 && banyan_domains_join(domains, 1, 1) == BANYAN_OK);
    entry.size = 1;
    CHECK(banyan_domains_enter(domains, 1, 1, &entry) < 0);
    entry.size = sizeof(entry);
    CHECK(banyan_domains_enter(domains, 1, 1, &entry) == BANYAN_OK);
    CHECK(entry.eip == 0x20000 && !entry.wait_for_sipi && banyan_domains_cores(domains, 0) == 0xD);

    CHECK(banyan_domains_translate(domains, 1, 0x1000, &hpa) == BANYAN_REACH_RAM && hpa == 0x20001000);
    CHECK(banyan_domains_translate(domains, 1, 0xFED40000u, &hpa) == BANYAN_REACH_MMIO && hpa == 0xFED40000u);
    CHECK(banyan_domains_translate(domains, 1, 0xFED51000u, &hpa) == BANYAN_REACH_NONE);
    CHECK(banyan_domains_translate(domains, 0, 0x20001000, &hpa) == BANYAN_REACH_NONE);
    CHECK(banyan_domains_ram(domains, 1, 0x30000, 0x10000, &hpa) == BANYAN_OK && hpa == 0x20030000);
    CHECK(banyan_domains_ram(domains, 1, 0x0FFF8000, 0x10000, &hpa) < 0);
    CHECK(banyan_domains_range(domains, 1, 0, &gpa, &hpa, &size) == BANYAN_OK && size == 0x10000000);
    CHECK(banyan_domains_range(domains, 1, 1, &gpa, &hpa, &size) < 0);

    CHECK(banyan_domains_port(domains, 0, 0xCF8, 4, 1, &port) == 1);
    CHECK(banyan_domains_port(domains, 1, 0x70, 2, 0, &port) == 0 && port == 0x00FF);
    CHECK(banyan_domains_port(domains, 1, 0x70, 1, 1, NULL) == 0);
    CHECK(banyan_domains_msr(domains, 1, 0xC0000080u, 1, &value, &mask) == BANYAN_MSR_PASS && mask == UINT64_MAX);
    CHECK(banyan_domains_msr(domains, 1, 0xC0010015u, 0, &value, &mask) == BANYAN_MSR_CONSTANT && value == 1u << 24);
    CHECK(banyan_domains_msr(domains, 1, 0xC0010117u, 0, &value, &mask) == BANYAN_MSR_FAULT);
    banyan_domains_deny(domains, 1, BANYAN_DENIED_INTERRUPT);

    banyan_domains_launched(domains, 0, digest, &times);
    banyan_domains_launched(domains, 1, digest, &times);
    (void)banyan_domains_mmio_write(domains, &guest_core, BANYAN_WINDOW_OWN, 0x80, 4, 16);
    CHECK(world.signs == 1 && world.facts.kind == BANYAN_REPORT_DOMAIN && world.facts.domain == 1);
    CHECK(world.facts.insecure ==
          (BANYAN_INSECURE_DMA_DRAIN | BANYAN_INSECURE_DEVICE_IRQ | BANYAN_INSECURE_DEBUG));
    CHECK(world.facts.hypervisor[0] == 7 && world.facts.nonce_size == 16 && world.facts.launch_count == 1);
    CHECK(banyan_domains_mmio_read(domains, &guest_core, BANYAN_WINDOW_OWN, 0x84, 4, &value) == BANYAN_OK && value == 2);
    CHECK(banyan_domains_mmio_read(domains, &guest_core, BANYAN_WINDOW_OWN, 0x800, 4, &value) == BANYAN_OK);
    CHECK(value == 0xC0C0C0C0u);

    json = banyan_domains_json(domains, 7);
    CHECK(json != NULL && strstr(json, "\"schema\":1") != NULL && strstr(json, "\"name\":\"a\"") != NULL);
    CHECK(strstr(json, "\"denied\":{\"port\":2,\"mmio\":0,\"interrupt\":1,\"msr\":1,\"dma\":0}") != NULL);
    free(json);

    (void)banyan_domains_mmio_write(domains, &guest_core, BANYAN_WINDOW_OWN, 0x10, 1, 0x34);
    CHECK(world.stopped == 1 && world.off == 1 && world.cancelled == 1);
    banyan_domains_exit(domains, 1, 1, BANYAN_EXIT_STOP_LINE);
    CHECK(control(domains, 0x1C, 4) == 5 && control(domains, 0x20, 4) == 1);
    control_write(domains, 0x14, 4, 4);
    CHECK(control(domains, 0x1C, 4) == 0 && world.scrubbed == 1 && world.unbind == 1 && world.reach == 3);

    banyan_domains_reset(domains);
    banyan_domains_destroy(domains);
    return 0;
}
