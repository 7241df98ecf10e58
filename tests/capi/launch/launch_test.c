/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two-phase launch from C11. */
#include "banyan/capi/launch.h"
#include "banyan/capi/vtpm.h"

#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

struct world {
    size_t digest_size;
    unsigned closed, opened, starts, data, ends, aborts, entered;
    uint32_t bytes, core, domain;
    struct banyan_launch_entry entry;
    struct banyan_launch_times times;
    uint8_t digest0;
};

static void window(void *opaque, uint32_t domain, uint64_t slb, int closed)
{
    struct world *world = opaque;
    (void)domain;
    (void)slb;
    closed ? world->closed++ : world->opened++;
}
static int drained(void *opaque, uint32_t domain)
{
    (void)opaque;
    (void)domain;
    return 1;
}
static banyan_status read_slb(void *opaque, uint32_t domain, uint64_t slb, uint8_t out[0x10000])
{
    const uint8_t header[4] = {0x10, 0x00, 0x88, 0x13}; /* entry 16, 5000 bytes measured */
    (void)opaque;
    (void)domain;
    (void)slb;
    memset(out, 0x90, 0x10000);
    memcpy(out, header, sizeof(header));
    return 0;
}
static banyan_status drtm(void *opaque, uint32_t domain, uint32_t step, const void *data, uint32_t size)
{
    struct world *world = opaque;
    (void)domain;
    (void)data;
    switch ((enum banyan_drtm_step)step) {
    case BANYAN_DRTM_START:
        world->starts++;
        break;
    case BANYAN_DRTM_DATA:
        world->data++;
        world->bytes += size;
        break;
    case BANYAN_DRTM_END:
        world->ends++;
        break;
    case BANYAN_DRTM_ABORT:
        world->aborts++;
        break;
    }
    return 0;
}
static banyan_status drtm_poll(void *opaque, uint32_t domain)
{
    (void)opaque;
    (void)domain;
    return BANYAN_OK;
}
static void digest_begin(void *opaque, uint32_t domain, const void *data, size_t size)
{
    struct world *world = opaque;
    (void)domain;
    (void)data;
    world->digest_size = size;
}
static banyan_status digest_poll(void *opaque, uint32_t domain, uint8_t out[BANYAN_DIGEST_SIZE])
{
    const struct world *world = opaque;
    (void)domain;
    memset(out, (int)(world->digest_size & 0xFF), BANYAN_DIGEST_SIZE);
    return BANYAN_OK;
}
static void enter(void *opaque, uint32_t core, uint32_t domain, const struct banyan_launch_entry *entry,
                  const uint8_t digest[BANYAN_DIGEST_SIZE], const struct banyan_launch_times *times)
{
    struct world *world = opaque;
    world->entered++;
    world->core = core;
    world->domain = domain;
    world->entry = *entry;
    world->times = *times;
    world->digest0 = digest[0];
}

static const struct banyan_launch_host_ops ops = {
    .size = sizeof(struct banyan_launch_host_ops),
    .window = window,
    .drained = drained,
    .read_slb = read_slb,
    .drtm = drtm,
    .drtm_poll = drtm_poll,
    .digest_begin = digest_begin,
    .digest_poll = digest_poll,
    .enter = enter,
};

int main(void)
{
    const struct banyan_launch_config config = {.size = sizeof(config), .hash_rate = 1000000, .poll_ns = 1000};
    struct banyan_launch_host_ops o = ops;
    struct banyan_launch *launch = NULL;
    struct world world = {0};
    int64_t next = -1;

    CHECK(banyan_launch_create(NULL, &ops, NULL, &launch) < 0);
    CHECK(banyan_launch_create(&config, NULL, NULL, &launch) < 0);
    o.enter = NULL;
    CHECK(banyan_launch_create(&config, &o, NULL, &launch) < 0);
    CHECK(banyan_launch_create(&config, &ops, &world, &launch) == BANYAN_OK);

    CHECK(banyan_launch_begin(launch, 3, 2, 0x30001, 100, &next) < 0);
    CHECK(banyan_launch_begin(launch, 3, 2, 0x30000, 100, &next) == BANYAN_OK && next == 100);
    CHECK(banyan_launch_begin(launch, 3, 2, 0x30000, 100, &next) < 0 && banyan_launch_open(launch, 2) == 1);
    /* HASH_START and HASH_END take a bus cycle of 390 ns each. */
    CHECK(banyan_launch_tick(launch, 2, 100, &next) == BANYAN_BUSY && next == 490);
    CHECK(banyan_launch_tick(launch, 2, next, &next) == BANYAN_BUSY && next == 490 + 4096 * 1000);
    CHECK(banyan_launch_tick(launch, 2, next, &next) == BANYAN_BUSY && next == 490 + 5000 * 1000);
    CHECK(banyan_launch_tick(launch, 2, next, &next) == BANYAN_BUSY && next == 880 + 5000 * 1000);
    CHECK(banyan_launch_tick(launch, 2, next, &next) == BANYAN_OK && banyan_launch_open(launch, 2) == 0);
    CHECK(banyan_launch_tick(launch, 2, next, &next) < 0);

    CHECK(world.closed == 1 && world.opened == 0 && world.starts == 1 && world.data == 2 && world.ends == 1);
    CHECK(world.bytes == 5000 && world.aborts == 0 && world.entered == 1 && world.core == 3 && world.domain == 2);
    CHECK(world.entry.slb == 0x30000 && world.entry.eip == 0x30010 && world.entry.esp == 0x40000);
    CHECK(world.entry.measured == 5000 && world.digest0 == (5000 & 0xFF));
    CHECK(world.entry.size == sizeof(world.entry) && world.times.size == sizeof(world.times));
    CHECK(world.times.start_ns == 100 && world.times.entry_ns == 880 + 5000 * 1000);

    CHECK(banyan_launch_begin(launch, 3, 2, 0x30000, 0, &next) == BANYAN_OK);
    CHECK(banyan_launch_tick(launch, 2, 0, &next) == BANYAN_BUSY);
    banyan_launch_cancel(launch, 2);
    CHECK(world.aborts == 1 && world.opened == 1 && banyan_launch_open(launch, 2) == 0);
    banyan_launch_reset(launch);
    banyan_launch_destroy(launch);
    banyan_launch_destroy(NULL);
    return 0;
}
