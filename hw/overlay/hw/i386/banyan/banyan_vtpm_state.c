/*
 * Domains and late launch: the vTPM in snapshots and migration
 *
 * Everything that is saved is one buffer of the library's, sealed by its
 * engine; here it only gets its place in the stream.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "migration/blocker.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "banyan_internal.h"
#include "trace.h"

/* The library's buffer on its way to or from the stream. */
static struct {
    BanyanChip *chip;
    uint32_t instances;
    uint32_t size;
    uint8_t *bytes;
    Error *no_key;
    Error *launch;
} state;

static void say(const char *what, char *why)
{
    error_report("%s: %s", what, why ? why : "the vTPM does not answer");
    free(why);
}

static void drop_bytes(void)
{
    g_free(state.bytes);
    state.bytes = NULL;
    state.size = 0;
}

/* A core between SKINIT and its loader has no state that could be saved. */
static bool launching(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (X86_CPU(cs)->env.domain.parked) {
            return true;
        }
    }
    return false;
}

/* The machine is stopped: a wait for the engine holds nobody up. */
static int state_pre_save(void *opaque)
{
    uint8_t *bytes;
    size_t size;
    char *error = NULL;

    drop_bytes();
    if (launching()) {
        error_report("cannot save: a launch is open");
        return -EBUSY;
    }
    if (banyan_vtpm_save(state.chip->vtpm,
                         qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL),
                         runstate_check(RUN_STATE_FINISH_MIGRATE), &bytes,
                         &size, &error)) {
        say("cannot save", error);
        return -EBUSY;
    }
    state.bytes = g_memdup2(bytes, size);
    state.size = size;
    free(bytes);
    trace_banyan_vtpm_saved(state.size);
    return 0;
}

static int state_post_save(void *opaque)
{
    drop_bytes();
    return 0;
}

static bool size_is_sane(void *opaque, int version_id)
{
    return state.size <= BANYAN_VTPM_SNAPSHOT_MAX(state.instances);
}

static int state_pre_load(void *opaque)
{
    drop_bytes();
    return 0;
}

static int state_post_load(void *opaque, int version_id)
{
    char *error = NULL;
    banyan_status rc = banyan_vtpm_load(state.chip->vtpm, state.bytes,
                                        state.size, &error);

    trace_banyan_vtpm_loaded(state.size, rc);
    drop_bytes();
    if (rc) {
        say("cannot load", error);
        return -EINVAL;
    }
    return 0;
}

static const VMStateDescription vmstate_banyan_vtpm = {
    .name = "banyan-vtpm",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = state_pre_save,
    .post_save = state_post_save,
    .pre_load = state_pre_load,
    .post_load = state_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(size, typeof(state)),
        VMSTATE_VALIDATE("size", size_is_sane),
        VMSTATE_VBUFFER_ALLOC_UINT32(bytes, typeof(state), 0, NULL, size),
        VMSTATE_END_OF_LIST()
    }
};

/* After a migration that failed, or was to a file, the state is ours again. */
static void run_state_changed(void *opaque, bool running, RunState now)
{
    char *error = NULL;

    if (running && state.chip->vtpm &&
        banyan_vtpm_run(state.chip->vtpm, &error)) {
        say("vTPM", error);
    }
}

bool banyan_vtpm_state_init(BanyanChip *chip, uint32_t instances, bool has_key,
                            Error **errp)
{
    state.chip = chip;
    state.instances = instances;
    if (!has_key) {
        error_setg(&state.no_key, "a vTPM without platform= needs a key for "
                   "snapshots and migration: snapshot-key=FILE, 32 random "
                   "bytes");
        if (migrate_add_blocker(&state.no_key, errp) < 0) {
            return false;
        }
    }
    vmstate_register(NULL, 0, &vmstate_banyan_vtpm, &state);
    qemu_add_vm_change_state_handler(run_state_changed, NULL);
    return true;
}

void banyan_vtpm_state_launch(bool open)
{
    if (!open) {
        migrate_del_blocker(&state.launch);
    } else if (!state.launch) {
        error_setg(&state.launch, "a launch is open: the machine can be saved "
                   "when it has ended");
        /* While a migration runs this fails, and the migration at its end. */
        migrate_add_blocker_internal(&state.launch, NULL);
    }
}
