/*
 * Domains and late launch: the vTPM's interrupt lines
 *
 * The library tells of each instance's level; instances that name the same
 * global system interrupt share its line. Domains have none.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/i386/x86.h"
#include "hw/irq.h"
#include "banyan_internal.h"
#include "trace.h"

/*
 * What nothing on a q35 drives, unless somebody adds an ISA device there. PCI
 * has 16 to 23, and 10 and 11 beside them, whichever controller is in use; a
 * line of two drivers would follow whoever spoke last.
 */
#define FREE_GSIS (1u << 5 | 1u << 6 | 1u << 14 | 1u << 15)
#define GSIS 16

typedef struct Wire {
    struct banyan_vtpm *vtpm;
    uint32_t instance;
    uint32_t gsi;
    int bell;        /* -1: none */
    QEMUTimer timer; /* at look_at, under icount */
    int64_t look_at; /* atomic; -1: no look is wanted */
    int level;       /* atomic */
    struct Wire *next;
} Wire;

static struct {
    Wire *wires;     /* made before the machine runs */
    int level[GSIS]; /* as the interrupt controller last heard */
    int stale;       /* atomic: a wire has said something since */
} irq;

static Wire *wire_of(uint32_t instance)
{
    Wire *w = irq.wires;

    while (w && w->instance != instance) {
        w = w->next;
    }
    return w;
}

static void follow(void)
{
    int level[GSIS] = { 0 };
    Wire *w;
    unsigned gsi;

    for (w = irq.wires; w; w = w->next) {
        int64_t at = qatomic_xchg(&w->look_at, -1);

        level[w->gsi] |= qatomic_read(&w->level);
        if (at >= 0) {
            timer_mod(&w->timer, at);
        }
    }
    for (gsi = 0; gsi < GSIS; gsi++) {
        if (level[gsi] != irq.level[gsi]) {
            irq.level[gsi] = level[gsi];
            trace_banyan_vtpm_irq(gsi, level[gsi]);
            qemu_set_irq(X86_MACHINE(qdev_get_machine())->gsi[gsi],
                         level[gsi]);
        }
    }
}

static void follow_if_stale(void)
{
    if (qatomic_xchg(&irq.stale, 0)) {
        follow();
    }
}

void banyan_vtpm_irq_settle(void)
{
    BanyanHeldLock held;

    if (!qatomic_read(&irq.stale)) {
        return;
    }
    if (bql_locked()) {
        follow_if_stale();
        return;
    }
    bql_lock();
    banyan_held_from_here(&held);
    follow_if_stale();
    banyan_held_to_here(&held);
    bql_unlock();
    banyan_held_trace(&held);
}

/*
 * With the instance locked. An access of a core is made without the big lock,
 * and settles when it is over: before the core's next instruction, so that
 * a handler that has lowered the line does not come twice.
 */
static void noted(void)
{
    qatomic_store_release(&irq.stale, 1);
    if (bql_locked()) {
        banyan_vtpm_irq_settle();
    }
}

void banyan_vtpm_irq_op(void *opaque, uint32_t instance, int level)
{
    qatomic_set(&wire_of(instance)->level, level);
    noted();
}

void banyan_vtpm_look_at_op(void *opaque, uint32_t instance, int64_t vtime_ns)
{
    qatomic_set(&wire_of(instance)->look_at, vtime_ns);
    noted();
}

static void look(void *opaque)
{
    Wire *w = opaque;
    BanyanHeldLock held;

    banyan_held_from_here(&held);
    banyan_vtpm_look(w->vtpm, w->instance,
                     qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
    banyan_held_to_here(&held);
    banyan_held_trace(&held);
}

bool banyan_vtpm_irq_suits(uint32_t gsi, Error **errp)
{
    if (gsi >= GSIS || !(FREE_GSIS & 1u << gsi)) {
        error_setg(errp, "irq= is 5, 6, 14 or 15; the machine itself has the "
                   "others");
        return false;
    }
    return true;
}

void banyan_vtpm_irq_wire(struct banyan_vtpm *vtpm, uint32_t instance,
                          uint32_t gsi)
{
    Wire *w = g_new0(Wire, 1);

    w->vtpm = vtpm;
    w->instance = instance;
    w->gsi = gsi;
    w->look_at = -1;
    w->bell = banyan_vtpm_bell(vtpm, instance);
    w->next = irq.wires;
    timer_init_ns(&w->timer, QEMU_CLOCK_VIRTUAL, look, w);
    if (w->bell >= 0) {
        qemu_set_fd_handler(w->bell, look, NULL, w);
    }
    irq.wires = w;
}

void banyan_vtpm_irq_unwire(void)
{
    Wire *w;

    while ((w = irq.wires)) {
        irq.wires = w->next;
        timer_del(&w->timer);
        if (w->bell >= 0) {
            qemu_set_fd_handler(w->bell, NULL, NULL, NULL);
        }
        g_free(w);
    }
}

uint32_t banyan_vtpm_irq_of(uint32_t instance)
{
    const Wire *w = wire_of(instance);

    return w ? w->gsi : 0;
}
