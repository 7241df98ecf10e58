/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BANYAN_CAPI_LAUNCH_H
#define BANYAN_CAPI_LAUNCH_H

#include "banyan/capi/base.h"
#include "banyan/capi/domains.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * SKINIT in two phases, for every domain at once (docs/spec/skinit.md). begin() commits; the core is parked. tick()
 * moves the open launch of a domain along at virtual times that it asks for; the last tick calls enter(). Big lock.
 *
 * Order of steps: close the DMA window, wait until drained, read the SLB once, HASH_START, HASH_DATA at the bus rate,
 * HASH_END, entry. Hash failures do not stop the launch: SKINIT is one-way, the instance is left FAILED.
 */
struct banyan_launch;

struct banyan_launch_config {
    uint32_t size;
    uint64_t hash_rate;     /* bytes per second on each instance's bus; 0: a bus cycle a chunk */
    uint32_t serial;        /* 1: one launch at a time (bench control; certified as insecure) */
    uint64_t poll_ns;       /* virtual time between two polls of a busy step */
};

struct banyan_launch_entry { /* APM 2, 15.27.2 */
    uint32_t size;
    uint32_t slb;    /* EAX: base of the block */
    uint32_t eip;    /* slb + header.entry */
    uint32_t esp;    /* slb + 64 KiB */
    uint32_t measured; /* bytes that were measured */
};

struct banyan_launch_host_ops {
    uint32_t size;
    void (*window)(void *opaque, uint32_t domain, uint64_t slb, int closed); /* [slb, slb + 64 KiB) guest physical */
    int (*drained)(void *opaque, uint32_t domain); /* 1: nothing begun before the closure can still land */
    /* Read the 64 KiB block out of the domain's RAM; negative if it is not all RAM. */
    banyan_status (*read_slb)(void *opaque, uint32_t domain, uint64_t slb, uint8_t out[0x10000]);
    banyan_status (*drtm)(void *opaque, uint32_t domain, uint32_t step, const void *data, uint32_t size); /* banyan_drtm_step */
    banyan_status (*drtm_poll)(void *opaque, uint32_t domain);
    /* SHA-384 of a copy of data, computed without the big lock; a new one for a domain takes the place of the last.
     * digest_poll: BANYAN_OK and the digest, or BANYAN_BUSY. */
    void (*digest_begin)(void *opaque, uint32_t domain, const void *data, size_t size);
    banyan_status (*digest_poll)(void *opaque, uint32_t domain, uint8_t out[BANYAN_DIGEST_SIZE]);
    void (*enter)(void *opaque, uint32_t core, uint32_t domain, const struct banyan_launch_entry *entry,
                  const uint8_t digest[BANYAN_DIGEST_SIZE], const struct banyan_launch_times *times);
};

banyan_status banyan_launch_create(const struct banyan_launch_config *config, const struct banyan_launch_host_ops *ops,
                                   void *opaque, struct banyan_launch **out);
void banyan_launch_destroy(struct banyan_launch *launch);

/* The checks of the manual that need no translation were made by the processor. slb is 64 KiB aligned. *next_ns is the
 * virtual time of the first tick. Negative: a launch of this domain is already open. */
banyan_status banyan_launch_begin(struct banyan_launch *launch, uint32_t core, uint32_t domain, uint64_t slb,
                                  int64_t now_ns, int64_t *next_ns);
/* BANYAN_BUSY: come again at *next_ns. 0: entered. Negative: no open launch. */
banyan_status banyan_launch_tick(struct banyan_launch *launch, uint32_t domain, int64_t now_ns, int64_t *next_ns);
/* Stop or reset: the open launch ends without entry; the hash sequence is aborted (instance FAILED until power-on). */
void banyan_launch_cancel(struct banyan_launch *launch, uint32_t domain);
int banyan_launch_open(const struct banyan_launch *launch, uint32_t domain);
/* Forget everything, at machine reset. */
void banyan_launch_reset(struct banyan_launch *launch);

#ifdef __cplusplus
}
#endif
#endif
