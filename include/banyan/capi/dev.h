/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BANYAN_CAPI_DEV_H
#define BANYAN_CAPI_DEV_H

#include "banyan/capi/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The registers of device 18h on bus 0 by which a loader lifts the DMA closure of its block (docs/spec/skinit.md), a
 * bank for each domain; domain is the requester's, 0 the host. function 3 holds the DEV capability block at F0h, function
 * 0 a word at 384h. Big lock.
 */
#define BANYAN_DEV_DEVICE 0x18u
#define BANYAN_DEV_FUNCTION 3u
#define BANYAN_DEV_LINK_FUNCTION 0u
#define BANYAN_DEV_CAPABILITY_ID 0x0Fu
#define BANYAN_DEV_CAPABILITY 0xF0u
#define BANYAN_DEV_CAPABILITY_SIZE 12u
#define BANYAN_DEV_SLB_PROTECTION 0x384u

struct banyan_dev;

banyan_status banyan_dev_create(struct banyan_dev **out);
void banyan_dev_destroy(struct banyan_dev *dev); /* NULL is allowed */
/* Nothing of the domain's earlier life is left. */
void banyan_dev_reset(struct banyan_dev *dev, uint32_t domain);

/* The aligned word at offset, 0 where there is no register. closed: the domain's launch window is closed to DMA. */
uint32_t banyan_dev_read(const struct banyan_dev *dev, uint32_t domain, uint32_t function, uint32_t offset, int closed);
/* 1: lift the domain's launch window. width is 1, 2 or 4; what crosses a word is ignored. */
int banyan_dev_write(struct banyan_dev *dev, uint32_t domain, uint32_t function, uint32_t offset, unsigned width,
                     uint32_t value, int closed);

#ifdef __cplusplus
}
#endif
#endif
