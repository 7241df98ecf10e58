/*
 * TSC-deadline mode of the local APIC's timer
 *
 * An OS that has it measures no timer frequency. The measurement goes wrong
 * where the host takes a core's thread away in the middle of it: Linux then
 * finds "APIC frequency too slow", and has no timer for the rest of its life.
 *
 * Intel SDM 3A, "TSC-Deadline Mode".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "cpu.h"
#include "hw/i386/apic_internal.h"
#include "hw/i386/banyan.h"
#include "system/cpu-timers.h"

/* Ticks in a nanosecond of a TSC that is faster than any. */
#define TICKS_PER_NS_MAX 8

static bool has_deadline(const CPUX86State *env)
{
    return env->features[FEAT_1_ECX] & CPUID_EXT_TSC_DEADLINE_TIMER;
}

bool banyan_deadline_mode(const APICCommonState *s)
{
    return has_deadline(&s->cpu->env) &&
           (s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_TSCDEADLINE);
}

static uint64_t ticks_left(CPUX86State *env)
{
    uint64_t now = cpu_get_tsc(env);

    return env->tsc_deadline > now ? env->tsc_deadline - now : 0;
}

void banyan_deadline_update(APICCommonState *s)
{
    CPUX86State *env = &s->cpu->env;
    uint64_t left;

    s->timer_expiry = -1;
    if (!env->tsc_deadline) {
        timer_del(s->timer);
        return;
    }
    left = ticks_left(env);
    /*
     * A TSC that does not count virtual time has a rate that nobody tells us:
     * sleep as long as is certainly not too long, look, and sleep again.
     */
    if (left && !banyan_virtual_tsc && !icount_enabled()) {
        left = MAX(left / TICKS_PER_NS_MAX, SCALE_US);
    }
    s->timer_expiry = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                      MIN(left, INT64_MAX / 2);
    timer_mod(s->timer, s->timer_expiry);
}

bool banyan_deadline_come(APICCommonState *s)
{
    CPUX86State *env = &s->cpu->env;

    if (!env->tsc_deadline) {
        return false;
    }
    if (ticks_left(env)) {
        banyan_deadline_update(s);
        return false;
    }
    env->tsc_deadline = 0;
    s->timer_expiry = -1;
    return true;
}

uint64_t banyan_deadline(CPUX86State *env)
{
    DeviceState *dev = env_archcpu(env)->apic_state;

    /* A reset of the APIC leaves another mode, and this value behind. */
    return dev && banyan_deadline_mode(APIC_COMMON(dev)) ? env->tsc_deadline
                                                         : 0;
}

void banyan_set_deadline(CPUX86State *env, uint64_t deadline)
{
    DeviceState *dev = env_archcpu(env)->apic_state;

    bql_lock();
    if (dev && banyan_deadline_mode(APIC_COMMON(dev))) { /* else it is lost */
        env->tsc_deadline = deadline;
        banyan_deadline_update(APIC_COMMON(dev));
    }
    bql_unlock();
}
