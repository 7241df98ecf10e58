/*
 * Domains and late launch: how long the vTPM keeps the big lock, as traced
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "banyan_internal.h"
#include "trace.h"

/* The longest that a control lasts; what holds the lock longer shows by itself. */
#define CONTROL_MAX_NS 20000

static int64_t thread_cpu_ns(void)
{
    struct timespec now = { 0 };

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * NANOSECONDS_PER_SECOND + now.tv_nsec;
}

/*
 * The thread's own time for nothing but as long a wait, measured alike. It is
 * longer than that when the host's timer interrupt, which is charged to the
 * thread that it meets, comes in between: as often as it comes while the lock
 * is held, for both last as long.
 */
static int64_t control_ns(int64_t ns)
{
    int64_t end, cpu_since;

    ns = MIN(ns, CONTROL_MAX_NS);
    end = get_clock() + ns;
    cpu_since = thread_cpu_ns();
    while (get_clock() < end) {
    }
    return thread_cpu_ns() - cpu_since;
}

void banyan_held_from_here(BanyanHeldLock *held)
{
    held->since = 0;
    if (trace_event_get_state_backends(TRACE_BANYAN_VTPM_BQL)) {
        getrusage(RUSAGE_THREAD, &held->usage);
        held->since = get_clock();
        held->cpu_since = thread_cpu_ns();
    }
}

void banyan_held_to_here(BanyanHeldLock *held)
{
    if (held->since) {
        held->cpu_ns = thread_cpu_ns() - held->cpu_since;
        held->ns = get_clock() - held->since;
    }
}

void banyan_held_trace(const BanyanHeldLock *held)
{
    struct rusage usage;

    if (held->since) {
        getrusage(RUSAGE_THREAD, &usage);
        trace_banyan_vtpm_bql(held->ns, held->cpu_ns,
                              usage.ru_nvcsw - held->usage.ru_nvcsw,
                              usage.ru_nivcsw - held->usage.ru_nivcsw,
                              control_ns(held->cpu_ns));
    }
}
