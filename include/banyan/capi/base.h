/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BANYAN_CAPI_BASE_H
#define BANYAN_CAPI_BASE_H

#include <stddef.h>
#include <stdint.h>

/* 0 is success, BANYAN_BUSY means "not yet, ask again"; every negative value is a negated banyan::Errc. */
typedef int32_t banyan_status;
#define BANYAN_OK 0
#define BANYAN_BUSY 1

#define BANYAN_MAX_DOMAINS 15u /* 1..15; 0 is the host */
#define BANYAN_DIGEST_SIZE 48u /* SHA-384 */
#define BANYAN_NONCE_MAX 64u
#define BANYAN_REPORT_MAX 2048u

/* One bus access, as the hardware tags it. Software never fills this in. */
struct banyan_cycle {
    uint32_t size;     /* sizeof(struct banyan_cycle) as the caller was built */
    uint8_t requester; /* domain + 1; 0 is nobody, and gets ones */
    uint8_t from_core; /* 1 only for an instruction of a core */
    uint8_t core;      /* index of that core; meaningful with from_core */
    uint8_t reserved;
    int64_t vtime_ns;  /* virtual time: the library reads no clock */
};

/* What the platform signs in a domain report or a receipt; the vTPM adds machine id, class, EK and AK names. */
enum banyan_report_kind { BANYAN_REPORT_DOMAIN = 0, BANYAN_REPORT_RECEIPT = 1 };

struct banyan_report_facts {
    uint32_t size; /* sizeof(struct banyan_report_facts) as the caller was built */
    uint32_t kind; /* enum banyan_report_kind */
    uint32_t domain;
    uint32_t instance;
    uint32_t flags;         /* the descriptor's flags */
    uint32_t insecure;      /* bits of enum banyan_insecure */
    uint64_t start_count;   /* seals of this domain since power-on */
    uint64_t launch_count;  /* completed SKINITs since the last seal */
    uint8_t digest[BANYAN_DIGEST_SIZE];     /* of the sealed descriptor; zero for the host */
    uint8_t hypervisor[BANYAN_DIGEST_SIZE]; /* SHA-384 of the host's last launched SLB; zero before */
    uint32_t nonce_size;
    uint8_t nonce[BANYAN_NONCE_MAX];
    char name[32]; /* the descriptor's */
};

/* Switches and missing parts that weaken a protection; each is certified and refused by verifiers unless named. */
enum banyan_insecure {
    BANYAN_INSECURE_DEBUG = 1u << 0,          /* "debug": a domain with the debug flag */
    BANYAN_INSECURE_DMA_DRAIN = 1u << 1,      /* "dma-drain": requests in flight are not drained at launch */
    BANYAN_INSECURE_DEVICE_IRQ = 1u << 2,     /* "device-interrupts": IOAPIC and device interrupts are not all held to the domain */
    BANYAN_INSECURE_SERIAL_ARBITER = 1u << 3, /* "serial-arbiter": launches wait for each other (bench control) */
    BANYAN_INSECURE_TEST_ENGINE = 1u << 4,    /* "test-engine": vTPM engine or keys are of class test */
    BANYAN_INSECURE_ROLLBACK_REPORT = 1u << 6, /* "rollback-report": an older vTPM state put back is reported, not refused */
    BANYAN_INSECURE_RESTORED = 1u << 7,        /* "restored": the TPM was brought back from a snapshot; the signer's word */
};

#endif
