/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BANYAN_CAPI_VTPM_H
#define BANYAN_CAPI_VTPM_H

#include "banyan/capi/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The vTPM chip: one window of five localities, many instances, told apart by the bus tag.
 *
 * Threads: every function may be called from any thread, with or without QEMU's big lock; each instance has a lock of
 * its own. Only mmio_write may wait, at most sync_bound_ns of host time, and must therefore be called without the big
 * lock. All others post or poll and return, but for save, load and run.
 */
#define BANYAN_VTPM_ABI_VERSION 1u
#define BANYAN_VTPM_WINDOW_SIZE 0x5000u
#define BANYAN_VTPM_FURTHER_SIZE 0xA0000u /* of the area with the further windows */

struct banyan_vtpm;

struct banyan_vtpm_config {
    uint32_t size;          /* sizeof this struct as the caller was built */
    uint32_t instances;     /* 0..instances-1 exist; 1..1024 */
    const char *engine;     /* path of the worker executable (banyan-vtpm-engine) */
    const char *platform;   /* private platform folder (docs/spec/platform.md), or NULL: keys made on the spot, class "test" */
    uint64_t sync_bound_ns; /* longest wait inside a doorbell write; 0: never wait */
    uint32_t deterministic; /* 1 under icount: a response becomes visible at a virtual time that depends only on the command */
    uint32_t did_vid;       /* TPM_DID_VID; 0: the default */
    uint32_t rollback;        /* enum banyan_vtpm_rollback */
    uint32_t require_sandbox; /* enum banyan_vtpm_sandbox: creation fails if the host cannot give it */
    /* Snapshots: a file of 32 random bytes, without platform alone; NULL: no snapshots there. A platform has its own. */
    const char *snapshot_key;
    uint32_t incoming; /* 1: banyan_vtpm_load will come; until then the platform folder is another machine's */
};

/* A store file that is not the newest (docs/spec/vtpm.md, section 9). */
enum banyan_vtpm_rollback {
    BANYAN_ROLLBACK_STRICT = 0, /* the instance does not start */
    BANYAN_ROLLBACK_REPORT = 1, /* event "store-rolled-back", and it goes on from there */
};
enum banyan_vtpm_sandbox {
    BANYAN_SANDBOX_ANY = 0,  /* seccomp always; namespaces and Landlock where the host has them */
    BANYAN_SANDBOX_FULL = 1, /* all of them */
};

/* A command that has ended, as the host may know it: never its parameters. */
struct banyan_vtpm_command {
    uint32_t size; /* sizeof this struct as the callee was built */
    uint32_t instance;
    uint32_t locality;
    uint32_t code;          /* TPM_CC; 0: shorter than a header */
    uint32_t command_size;
    uint32_t response_size; /* 0: given up, nobody saw a response */
    uint32_t result;        /* TPM_RC of the response */
    uint32_t reserved;
    uint64_t ns;            /* from tpmGo to the response, host_ns */
};

struct banyan_vtpm_host_ops {
    uint32_t size; /* sizeof this struct as the caller was built */
    /* Something a user should learn: "worker-died", "syscall-refused", "store-failed", "store-rolled-back", ... May come from any thread. */
    void (*event)(void *opaque, uint32_t instance, const char *kind, const char *text);
    /*
     * The interrupt line of an instance, 1: asserted. Called with the instance locked, from any thread, in any function
     * of this header that can change it; must not call back. NULL: no interrupts are wired. The library starts no
     * thread, so the line follows a long command when somebody looks: banyan_vtpm_bell says when.
     */
    void (*irq)(void *opaque, uint32_t instance, int level);
    /* The next three: from any thread, with the instance locked; they must not call back. NULL: not wanted. */
    void (*command)(void *opaque, const struct banyan_vtpm_command *command);
    void (*locality)(void *opaque, uint32_t instance, int32_t from, int32_t to); /* -1: none is active */
    int64_t (*host_ns)(void *opaque); /* a clock for figures alone; no answer depends on it */
    /* deterministic, with interrupts: banyan_vtpm_look is wanted at this virtual time. As irq; NULL: nobody looks. */
    void (*look_at)(void *opaque, uint32_t instance, int64_t vtime_ns);
};

enum banyan_vtpm_interface { BANYAN_VTPM_TIS = 0, BANYAN_VTPM_CRB = 1 };
enum banyan_vtpm_bank { BANYAN_VTPM_SHA1 = 1u << 0, BANYAN_VTPM_SHA256 = 1u << 1, BANYAN_VTPM_SHA384 = 1u << 2 };

/* What software finds in an instance's window. All zero: TIS, the chip's DID/VID, all three banks, no interrupts. */
struct banyan_vtpm_instance_config {
    uint32_t size;       /* sizeof this struct as the caller was built */
    uint32_t interface;  /* enum banyan_vtpm_interface */
    uint32_t did_vid;    /* 0: as in banyan_vtpm_config */
    uint32_t banks;      /* bits of enum banyan_vtpm_bank; 0: all. Holds from the next power-on, whatever was before */
    uint32_t interrupts; /* 1: with interrupts; needs the host operation irq */
    uint32_t reserved;   /* 0 */
    uint64_t window;     /* physical address of its window, for the CRB's address registers; 0: 0xFED40000 */
};

enum banyan_vtpm_state {
    BANYAN_VTPM_OFF = 0,
    BANYAN_VTPM_STARTING = 1, /* power-on, _TPM_Init and TPM2_Startup(CLEAR) under way, all issued by the chip */
    BANYAN_VTPM_READY = 2,
    BANYAN_VTPM_STOPPING = 3,
    BANYAN_VTPM_FAILED = 4, /* failure mode until the next power-on */
    BANYAN_VTPM_ABSENT = 5, /* no such instance */
    BANYAN_VTPM_HELD = 6,   /* after _TPM_Init, before TPM2_Startup: waits for one hash sequence, see power_on_held */
    BANYAN_VTPM_PARKED = 7, /* as FAILED; its worker died too often, and is not started again until the next power-on */
};

uint32_t banyan_vtpm_abi_version(void);

/* Starts the engine (posix_spawn); raises the soft limit of open files where so many instances need it. On failure *error, when not NULL, gets a sentence to be freed with free(). */
banyan_status banyan_vtpm_create(const struct banyan_vtpm_config *config, const struct banyan_vtpm_host_ops *ops,
                                 void *opaque, struct banyan_vtpm **out, char **error);
void banyan_vtpm_destroy(struct banyan_vtpm *vtpm); /* NULL is allowed; ends every worker */

/* The window. offset is 0..BANYAN_VTPM_WINDOW_SIZE-1, width 1, 2, 4 or 8. Untagged accesses read ones and are counted. */
banyan_status banyan_vtpm_mmio_read(struct banyan_vtpm *vtpm, const struct banyan_cycle *cycle, uint64_t offset,
                                    unsigned width, uint64_t *value);
banyan_status banyan_vtpm_mmio_write(struct banyan_vtpm *vtpm, const struct banyan_cycle *cycle, uint64_t offset,
                                     unsigned width, uint64_t value);

/* The area of further windows, the same for everyone; the tag says whose windows they are. offset is
 * 0..BANYAN_VTPM_FURTHER_SIZE-1. Where the requester has no window: ones, counted. */
banyan_status banyan_vtpm_further_read(struct banyan_vtpm *vtpm, const struct banyan_cycle *cycle, uint64_t offset,
                                       unsigned width, uint64_t *value);
banyan_status banyan_vtpm_further_write(struct banyan_vtpm *vtpm, const struct banyan_cycle *cycle, uint64_t offset,
                                        unsigned width, uint64_t value);

/* Which instance a domain's tag selects. Domain 0 is bound to instance 0 at creation. An instance has one domain. */
banyan_status banyan_vtpm_bind(struct banyan_vtpm *vtpm, uint32_t domain, uint32_t instance);
/* Behind window 0..8 of a domain from 1 on; its further windows lie side by side from the start of the area. A CRB can be
 * behind the first alone: UNSUPPORTED. */
banyan_status banyan_vtpm_bind_window(struct banyan_vtpm *vtpm, uint32_t domain, uint32_t window, uint32_t instance);
/* Every window of the domain. */
banyan_status banyan_vtpm_unbind(struct banyan_vtpm *vtpm, uint32_t domain);

/* A command line's words: interface "tis" or "crb", banks as in "sha256" or "sha1+sha256+sha384". NULL leaves the field
 * as it is; BAD_ARGUMENT leaves all. */
banyan_status banyan_vtpm_parse(struct banyan_vtpm_instance_config *config, const char *interface, const char *banks);

/* While the instance is off; nothing that software does changes it. BAD_STATE otherwise, UNSUPPORTED: no irq. */
banyan_status banyan_vtpm_configure(struct banyan_vtpm *vtpm, uint32_t instance,
                                    const struct banyan_vtpm_instance_config *config);

/* The same for whoever gives the machine's instances their setup: once for each instance, so that no two owners of a
 * command line's words meet. On failure *error, when not NULL, gets a sentence to be freed with free(). */
banyan_status banyan_vtpm_set_up(struct banyan_vtpm *vtpm, uint32_t instance,
                                 const struct banyan_vtpm_instance_config *config, char **error);

/*
 * Interrupts of commands that outlast their doorbell. bell: a descriptor for an event loop, the same from the instance's
 * configuration to banyan_vtpm_destroy, which closes it; readable when banyan_vtpm_look is due. -1: never needed, without
 * interrupts or when deterministic (host operation look_at). look: takes in what has happened, so that the line follows;
 * always allowed.
 */
int banyan_vtpm_bell(struct banyan_vtpm *vtpm, uint32_t instance);
banyan_status banyan_vtpm_look(struct banyan_vtpm *vtpm, uint32_t instance, int64_t vtime_ns);

/*
 * Further windows of domain 0, each with an instance of its own: several TPMs in one machine. address 0: the next free
 * place; else page aligned, between the bounds of docs/spec/vtpm.md, clear of the others. *window gets its number,
 * from 1. On failure *error, when not NULL, gets a sentence to be freed with free().
 */
banyan_status banyan_vtpm_add_window(struct banyan_vtpm *vtpm, uint32_t instance, uint64_t address, uint32_t *window,
                                     char **error);

/* What firmware tables say of window `window` of domain 0. Negative: there is no such window. */
struct banyan_vtpm_description {
    uint32_t size; /* sizeof this struct as the caller was built */
    uint32_t instance;
    uint64_t base;
    uint64_t length;
    uint32_t start_method; /* TCG ACPI 1.4, table 8: 6 FIFO, 7 command response buffer */
    uint32_t reserved;
    uint64_t control_area; /* its address; 0 for FIFO */
    char hid[12];          /* ACPI _HID */
};
banyan_status banyan_vtpm_describe(struct banyan_vtpm *vtpm, uint32_t window, struct banyan_vtpm_description *out);

/* Firmware learns of window 0 from its tables and will send TPM2_Startup(CLEAR) before anything else: it is answered
 * with success, since the chip has done that. */
banyan_status banyan_vtpm_expect_firmware(struct banyan_vtpm *vtpm);

/* Machine reset: begins a power cycle of every instance of domain 0. */
banyan_status banyan_vtpm_reset(struct banyan_vtpm *vtpm);

/* Begins a power cycle: off (if on), _TPM_Init, Startup(CLEAR). The state becomes READY or FAILED; ask instance_state.
 * Localities, a running command and an open hash sequence of the earlier life are gone. */
banyan_status banyan_vtpm_power_on(struct banyan_vtpm *vtpm, uint32_t instance);
/* The same up to _TPM_Init; the state becomes HELD. One sequence of banyan_vtpm_drtm is then an H-CRTM event: PCR 0 is
 * extended from 0..04. After END the chip sends Startup(CLEAR) by itself; drtm_poll is BUSY until the state is READY. */
banyan_status banyan_vtpm_power_on_held(struct banyan_vtpm *vtpm, uint32_t instance);
banyan_status banyan_vtpm_power_off(struct banyan_vtpm *vtpm, uint32_t instance);
enum banyan_vtpm_state banyan_vtpm_instance_state(struct banyan_vtpm *vtpm, uint32_t instance);
/* Zeroises the instance for good: powered off, state and keys overwritten on the disk too. */
banyan_status banyan_vtpm_erase(struct banyan_vtpm *vtpm, uint32_t instance);

/*
 * D-RTM: from the processor alone. START cancels a running command, seizes locality 4 and makes the instance
 * launch-open; DATA at most 4096 bytes; END extends PCR 17. One step at a time: each posts, then poll until not BUSY.
 * A step out of order, a failed worker or ABORT leaves the instance FAILED until its next power-on.
 */
enum banyan_drtm_step { BANYAN_DRTM_START = 0, BANYAN_DRTM_DATA = 1, BANYAN_DRTM_END = 2, BANYAN_DRTM_ABORT = 3 };
#define BANYAN_DRTM_DATA_MAX 4096u
banyan_status banyan_vtpm_drtm(struct banyan_vtpm *vtpm, uint32_t instance, enum banyan_drtm_step step,
                               const void *data, uint32_t size);
banyan_status banyan_vtpm_drtm_poll(struct banyan_vtpm *vtpm, uint32_t instance);

/*
 * Snapshot and migration: every instance, sealed under the platform's key (docs/spec/vtpm.md, "Snapshot"). The machine
 * is stopped, no other function is under way; the three wait for the engine: a command under way ends first.
 * On failure *error, when not NULL, gets a sentence to be freed with free().
 *
 * save: *bytes is to be freed with free(). Refused while a launch is open anywhere. hand_over 1: another machine goes on
 * with the state and may take the platform folder; run takes it back.
 * load: bytes may come from anybody. Either all of it is good, or nothing has changed; if only then an instance cannot be
 * brought back (a full disk), that one is failed. Each load begins a new lineage: generation and number of restores
 * rise above all that were seen, and the TPM's random numbers are stirred before it returns.
 * run: before the machine runs (again), always allowed. Fails when another machine went on with the state; the instances
 * are failed then.
 */
#define BANYAN_VTPM_SNAPSHOT_MAX(instances) (4096u + (size_t)(instances) * 245760u)
banyan_status banyan_vtpm_save(struct banyan_vtpm *vtpm, int64_t vtime_ns, int hand_over, uint8_t **bytes, size_t *size,
                               char **error);
banyan_status banyan_vtpm_load(struct banyan_vtpm *vtpm, const uint8_t *bytes, size_t size, char **error);
banyan_status banyan_vtpm_run(struct banyan_vtpm *vtpm, char **error);

/* Signs a report or receipt with the platform key (COSE_Sign1, ES384). One at a time per slot (0..31). */
banyan_status banyan_vtpm_sign(struct banyan_vtpm *vtpm, uint32_t slot, const struct banyan_report_facts *facts);
/* 0: out holds *size bytes; BANYAN_BUSY; negative: failed. out has room for BANYAN_REPORT_MAX. */
banyan_status banyan_vtpm_sign_poll(struct banyan_vtpm *vtpm, uint32_t slot, uint8_t *out, uint32_t *size);

/* Counters and states as one JSON object; nothing secret. Free with free(). */
char *banyan_vtpm_json(struct banyan_vtpm *vtpm);

#ifdef __cplusplus
}
#endif
#endif
