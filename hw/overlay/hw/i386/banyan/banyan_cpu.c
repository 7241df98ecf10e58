/*
 * Domains and late launch: the processor's side
 *
 * A core is in one of two worlds: the host's, or a domain's. World switches
 * happen between instructions only, in the CPU loop with the BQL held; helpers
 * commit to one, park the core, and leave.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "exec/exec-all.h"
#include "exec/helper-proto.h"
#include "hw/i386/apic.h"
#include "hw/i386/apic_internal.h"
#include "system/runstate.h"
#include "target/i386/svm.h"
#include "target/i386/tcg/helper-tcg.h"
#include "banyan_internal.h"
#include "trace.h"

bool banyan_enabled;
bool banyan_virtual_tsc;

static struct banyan_domains *table(void)
{
    return banyan_chip()->domains;
}

X86CPU *banyan_core(uint32_t core)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (X86_CPU(cs)->apic_id == core) {
            return X86_CPU(cs);
        }
    }
    return NULL;
}

/* ---- filters ---- */

hwaddr banyan_second_stage(CPUX86State *env, hwaddr addr)
{
    uint64_t hpa;

    if (banyan_domains_translate(table(), env->domain.active,
                                 addr & TARGET_PAGE_MASK, &hpa)
        == BANYAN_REACH_NONE) {
        trace_banyan_black_hole(env_archcpu(env)->apic_id, env->domain.active,
                                addr);
        hpa = BANYAN_BLACK_HOLE_BASE;
    }
    return hpa | (addr & ~TARGET_PAGE_MASK);
}

bool banyan_port_denied(CPUX86State *env, uint32_t port, unsigned width,
                        bool write, uint32_t *data)
{
    if (banyan_domains_port(table(), env->domain.active, port, width, write,
                            data)) {
        return false;
    }
    trace_banyan_port(env_archcpu(env)->apic_id, env->domain.active, port,
                      write);
    return true;
}

BanyanMsr banyan_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val)
{
    uint64_t mask;
    enum banyan_msr_action action;

    if (!banyan_enabled) {
        return BANYAN_MSR_IS_PLAIN;
    }
    if (!env->domain.active) {
        if (msr != BANYAN_MSR_DOMAIN) {
            return BANYAN_MSR_IS_PLAIN;
        }
        *val = env->domain.joined;
        return BANYAN_MSR_IS_DONE;
    }
    action = banyan_domains_msr(table(), env->domain.active, msr, 0, val,
                                &mask);
    trace_banyan_msr(env_archcpu(env)->apic_id, env->domain.active, msr, 0,
                     action);
    switch (action) {
    case BANYAN_MSR_PASS:
        if (msr == MSR_IA32_APICBASE && env->domain.boot) {
            *val = cpu_get_apic_base(env_archcpu(env)->apic_state) |
                   MSR_IA32_APICBASE_BSP;
            return BANYAN_MSR_IS_DONE;
        }
        return BANYAN_MSR_IS_PLAIN;
    case BANYAN_MSR_CONSTANT:
        return BANYAN_MSR_IS_DONE;
    case BANYAN_MSR_FAULT:
        break;
    }
    return BANYAN_MSR_IS_FAULT;
}

/* What RDMSR of the register that ECX names gives. */
static uint64_t present_value(CPUX86State *env)
{
    target_ulong eax = env->regs[R_EAX];
    target_ulong edx = env->regs[R_EDX];
    uint64_t value;

    helper_rdmsr(env);
    value = (uint32_t)env->regs[R_EAX] |
            ((uint64_t)(uint32_t)env->regs[R_EDX] << 32);
    env->regs[R_EAX] = eax;
    env->regs[R_EDX] = edx;
    return value;
}

BanyanMsr banyan_wrmsr(CPUX86State *env, uint32_t msr, uint64_t *val)
{
    uint32_t core = env_archcpu(env)->apic_id;
    uint64_t fixed = 0;
    uint64_t mask = 0;
    enum banyan_msr_action action;
    banyan_status rc;

    if (!banyan_enabled) {
        return BANYAN_MSR_IS_PLAIN;
    }
    if (!env->domain.active) {
        if (msr != BANYAN_MSR_DOMAIN) {
            return BANYAN_MSR_IS_PLAIN;
        }
        if (*val > BANYAN_MAX_DOMAINS) {
            return BANYAN_MSR_IS_FAULT;
        }
        bql_lock();
        rc = banyan_domains_join(table(), core, *val);
        bql_unlock();
        if (rc) {
            return BANYAN_MSR_IS_FAULT;
        }
        env->domain.joined = *val;
        return BANYAN_MSR_IS_DONE;
    }
    action = banyan_domains_msr(table(), env->domain.active, msr, 1, &fixed,
                                &mask);
    trace_banyan_msr(core, env->domain.active, msr, 1, action);
    switch (action) {
    case BANYAN_MSR_PASS:
        if (mask == 0) {
            return BANYAN_MSR_IS_DONE;
        }
        if (~mask) {
            *val = (*val & mask) | (present_value(env) & ~mask);
        }
        return BANYAN_MSR_IS_PLAIN;
    case BANYAN_MSR_CONSTANT:
        return BANYAN_MSR_IS_DONE;
    case BANYAN_MSR_FAULT:
        break;
    }
    return BANYAN_MSR_IS_FAULT;
}

void banyan_deny_interrupt(unsigned domain)
{
    banyan_domains_deny(table(), domain, BANYAN_DENIED_INTERRUPT);
}

/* VMRUN, VMLOAD, VMSAVE and INVLPGA work on host physical memory. */
void helper_host_only(CPUX86State *env)
{
    if (env->domain.active) {
        raise_exception_ra(env, EXCP06_ILLOP, GETPC());
    }
}

/* ---- committing to a world switch ---- */

void banyan_cpu_raise(X86CPU *cpu, uint32_t event)
{
    cpu->env.domain.events |= event;
    cpu_interrupt(CPU(cpu), CPU_INTERRUPT_DOMAIN);
}

static G_NORETURN void leave_parked(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);

    env->domain.parked = true;
    cs->halted = 1;
    cs->exception_index = EXCP_HLT;
    cpu_loop_exit(cs);
}

static void nothing(CPUState *cs, run_on_cpu_data data)
{
}

G_NORETURN void banyan_cpu_vmrun(CPUX86State *env, uint64_t vmcb,
                                 int next_eip_addend)
{
    /* Flushes that a seal has queued on any core happen before this enters. */
    async_safe_run_on_cpu(env_cpu(env), nothing, RUN_ON_CPU_NULL);
    env->domain.vmcb = vmcb;
    env->eip += next_eip_addend;
    bql_lock();
    banyan_cpu_raise(env_archcpu(env), BANYAN_EVENT_VMRUN);
    bql_unlock();
    leave_parked(env);
}

void banyan_cpu_shutdown(CPUX86State *env, uintptr_t retaddr)
{
    bool locked = bql_locked();

    if (!env->domain.active) {
        return;
    }
    if (!locked) {
        bql_lock();
    }
    banyan_cpu_raise(env_archcpu(env), BANYAN_EVENT_SHUTDOWN);
    if (!locked) {
        bql_unlock();
    }
    leave_parked(env);
}

bool banyan_waits_for_sipi(X86CPU *cpu)
{
    return banyan_enabled && cpu->apic_state &&
           APIC_COMMON(cpu->apic_state)->wait_for_sipi;
}

/* The cores of this core's world, besides itself, that do not wait for SIPI. */
static bool siblings_wait(X86CPU *cpu)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        X86CPU *other = X86_CPU(cs);

        /* A SIPI that it is about to take counts as running. */
        if (other != cpu &&
            other->env.domain.active == cpu->env.domain.active &&
            (!APIC_COMMON(other->apic_state)->wait_for_sipi ||
             (cs->interrupt_request & CPU_INTERRUPT_SIPI))) {
            return false;
        }
    }
    return true;
}

/* APM 3, SKINIT; APM 2, 15.27. The first of its two phases. */
void helper_skinit(CPUX86State *env, int next_eip_addend)
{
    X86CPU *cpu = env_archcpu(env);
    uint32_t slb = (uint32_t)env->regs[R_EAX] & ~(BANYAN_SLB_SIZE - 1);
    bool boot = env->domain.active ? env->domain.boot : cpu_is_bsp(cpu);
    banyan_status rc;

    if (env->hflags & HF_GUEST_MASK) {
        /* An ordinary guest whose hypervisor does not intercept it. */
        raise_exception_ra(env, EXCP06_ILLOP, GETPC());
    }
    if (!boot) {
        qemu_log_mask(LOG_GUEST_ERROR, "SKINIT on an application core\n");
        raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
    }

    bql_lock();
    banyan_chip();
    if (env_cpu(env)->interrupt_request & CPU_INTERRUPT_DOMAIN) {
        /* The stop line is up: this core launches nothing any more. */
        bql_unlock();
        leave_parked(env);
    }
    if (!siblings_wait(cpu)) {
        qemu_log_mask(LOG_GUEST_ERROR, "SKINIT while a sibling core does not "
                      "wait for SIPI: shutdown\n");
        if (env->domain.active) {
            banyan_cpu_raise(cpu, BANYAN_EVENT_SIBLING);
        } else {
            qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
        }
        bql_unlock();
        leave_parked(env);
    }
    rc = banyan_chip_skinit(cpu, slb);
    env->domain.parked = rc == BANYAN_OK; /* before the first tick can come */
    bql_unlock();
    if (rc) {
        qemu_log_mask(LOG_GUEST_ERROR, "SKINIT of 0x%" PRIx32 ": the block is "
                      "not all RAM of the caller\n", slb);
        raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
    }
    trace_banyan_skinit(cpu->apic_id, env->domain.active, slb);
    leave_parked(env);
}

/* ---- the switches; CPU loop, BQL ---- */

#define FLAT_CODE (DESC_G_MASK | DESC_B_MASK | DESC_P_MASK | DESC_S_MASK | \
                   DESC_CS_MASK | DESC_R_MASK | DESC_A_MASK)
#define FLAT_DATA (DESC_G_MASK | DESC_B_MASK | DESC_P_MASK | DESC_S_MASK | \
                   DESC_W_MASK | DESC_A_MASK)
#define REAL_DATA (DESC_P_MASK | DESC_S_MASK | DESC_W_MASK | DESC_A_MASK)

/* 32-bit protected mode, flat code and stack, paging off, EFER 0. */
static void flat_protected_mode(CPUX86State *env)
{
    cpu_x86_update_cr0(env, CR0_PE_MASK | CR0_ET_MASK);
    cpu_x86_update_cr4(env, 0);
    cpu_x86_update_cr3(env, 0);
    cpu_load_efer(env, 0);
    env->eflags = 0;
    cpu_load_eflags(env, 2, ~(CC_O | CC_S | CC_Z | CC_A | CC_P | CC_C |
                              DF_MASK));
    env->hflags &= ~HF_INHIBIT_IRQ_MASK;
    cpu_x86_load_seg_cache(env, R_CS, 0x08, 0, 0xffffffff, FLAT_CODE);
    cpu_x86_load_seg_cache(env, R_SS, 0x10, 0, 0xffffffff, FLAT_DATA);
}

/* APM 2, 15.27.2: what SKINIT leaves behind. */
static void enter_slb(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    uint32_t eax, ebx, ecx, edx;
    int seg;

    cpu_x86_cpuid(env, 1, 0, &eax, &ebx, &ecx, &edx);
    memset(env->regs, 0, sizeof(env->regs));
    env->regs[R_EAX] = env->domain.slb;
    env->regs[R_EDX] = eax;
    env->regs[R_ESP] = env->domain.slb + BANYAN_SLB_SIZE;
    env->eip = env->domain.slb_eip;
    env->cr[2] = 0;
    flat_protected_mode(env);
    for (seg = R_ES; seg <= R_GS; seg++) {
        if (seg != R_CS && seg != R_SS) {
            cpu_x86_load_seg_cache(env, seg, 0, 0, 0xffff, REAL_DATA);
        }
    }
    env->gdt.base = env->idt.base = 0;
    env->gdt.limit = env->idt.limit = 0xffff;
    env->ldt = (SegmentCache) {
        .limit = 0xffff,
        .flags = DESC_P_MASK | (2 << DESC_TYPE_SHIFT),
    };
    env->tr = (SegmentCache) {
        .limit = 0xffff,
        .flags = DESC_P_MASK | (11 << DESC_TYPE_SHIFT),
    };
    cpu_x86_update_dr7(env, DR7_FIXED_1);
    env->dr[6] = DR6_FIXED_1;
    env->vm_cr |= VM_CR_DPD | VM_CR_R_INIT | VM_CR_DIS_A20M;
    env->a20_mask = ~0;
    env->hflags2 &= ~(HF2_GIF_MASK | HF2_NMI_MASK);
    env->old_exception = -1;
    trace_banyan_skinit_entry(cpu->apic_id, env->domain.active,
                              env->domain.slb_eip);
}

void banyan_cpu_sipi(CPUX86State *env)
{
    if (env->domain.sipi_launched) {
        env->domain.sipi_launched = false;
        env->hflags2 &= ~HF2_GIF_MASK;
        env->vm_cr |= VM_CR_DPD | VM_CR_R_INIT | VM_CR_DIS_A20M;
    }
}

static void drop_host_state(CPUX86State *env)
{
    g_free(env->domain.host);
    env->domain.host = NULL;
}

/* Everything the domain left in this core is gone, LAPIC included. */
static void fresh_core(X86CPU *cpu)
{
    CPUState *cs = CPU(cpu);

    APICCommonState *apic = APIC_COMMON(cpu->apic_state);

    cpu_x86_update_dr7(&cpu->env, DR7_FIXED_1);
    cpu_reset(cs);
    apic_init_reset(cpu->apic_state);
    apic->wait_for_sipi = 0;
    apic->id = apic->initial_apic_id;
    apic->vapic_paddr = 0;
    apic->apicbase = (apic->apicbase & MSR_IA32_APICBASE_BSP) |
                     APIC_DEFAULT_ADDRESS | MSR_IA32_APICBASE_ENABLE;
    cpu->env.domain.sipi_launched = false;
    cs->halted = 0;
}

static void enter_domain(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    CPUState *cs = CPU(cpu);
    struct banyan_entry entry = { .size = sizeof(entry) };
    uint8_t domain = env->domain.joined;
    size_t kept = offsetof(CPUX86State, end_reset_fields);
    banyan_status rc;
    int seg;

    rc = banyan_domains_enter(table(), cpu->apic_id, domain, &entry);
    trace_banyan_domain_enter(cpu->apic_id, domain, entry.eip, rc);
    if (rc) {
        env->hflags2 &= ~HF2_GIF_MASK;
        /* This memory is the host's, or the store is lost. */
        x86_stq_phys(cs, env->domain.vmcb +
                     offsetof(struct vmcb, control.exit_code), SVM_EXIT_ERR);
        return;
    }

    /* On the way back the host's breakpoints are off, as after any #VMEXIT. */
    cpu_x86_update_dr7(env, env->dr[7] & ~0xff);
    env->domain.host = g_malloc(kept);
    memcpy(env->domain.host, env, kept);

    fresh_core(cpu);
    env->domain.active = domain;
    env->domain.boot = !entry.wait_for_sipi;
    if (entry.wait_for_sipi) {
        APIC_COMMON(cpu->apic_state)->wait_for_sipi = 1;
        cs->halted = 1;
    } else {
        flat_protected_mode(env);
        for (seg = R_ES; seg <= R_GS; seg++) {
            if (seg != R_CS && seg != R_SS) {
                cpu_x86_load_seg_cache(env, seg, 0x10, 0, 0xffffffff,
                                       FLAT_DATA);
            }
        }
        memset(env->regs, 0, sizeof(env->regs));
        env->regs[R_EAX] = entry.eax;
        env->regs[R_EBX] = entry.ebx;
        env->regs[R_ESI] = entry.esi;
        env->eip = entry.eip;
    }
    tlb_flush(cs);
}

static void leave_domain(X86CPU *cpu, uint64_t code,
                         enum banyan_exit_cause cause)
{
    CPUX86State *env = &cpu->env;
    CPUState *cs = CPU(cpu);
    uint8_t domain = env->domain.active;
    uint64_t rsp, rax;

    trace_banyan_domain_exit(cpu->apic_id, domain, code);
    fresh_core(cpu);
    memcpy(env, env->domain.host, offsetof(CPUX86State, end_reset_fields));
    drop_host_state(env);
    env->domain.active = 0;
    env->domain.joined = 0;
    env->domain.boot = false;

    /* The host gets its own RAX, RSP and RIP, and zeros. */
    rax = env->regs[R_EAX];
    rsp = env->regs[R_ESP];
    memset(env->regs, 0, sizeof(env->regs));
    env->regs[R_EAX] = rax;
    env->regs[R_ESP] = rsp;
    memset(env->xmm_regs, 0, sizeof(env->xmm_regs));
    memset(env->opmask_regs, 0, sizeof(env->opmask_regs));
    memset(env->fpregs, 0, sizeof(env->fpregs));
    env->hflags2 &= ~(HF2_GIF_MASK | HF2_VGIF_MASK);
    env->old_exception = -1;
    tlb_flush(cs);

    x86_stq_phys(cs, env->domain.vmcb +
                 offsetof(struct vmcb, control.exit_code), code);
    banyan_domains_exit(table(), cpu->apic_id, domain, cause);
}

void banyan_cpu_event(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    uint32_t events = env->domain.events;

    env->domain.events = 0;
    env->domain.parked = false;
    if (env->domain.active && (events & BANYAN_EVENT_SHUTDOWN)) {
        leave_domain(cpu, SVM_EXIT_SHUTDOWN, BANYAN_EXIT_SHUTDOWN);
    } else if (env->domain.active && (events & BANYAN_EVENT_SIBLING)) {
        leave_domain(cpu, SVM_EXIT_SHUTDOWN, BANYAN_EXIT_SIBLING);
    } else if (env->domain.active && (events & BANYAN_EVENT_STOP)) {
        leave_domain(cpu, BANYAN_VMEXIT_STOP, BANYAN_EXIT_STOP_LINE);
    } else if (events & BANYAN_EVENT_VMRUN) {
        enter_domain(cpu);
    } else if (events & BANYAN_EVENT_SLB) {
        enter_slb(cpu);
    }
    if (CPU(cpu)->halted) { /* an application core: it waits for SIPI */
        qatomic_set(&CPU(cpu)->exit_request, true);
    }
}

void banyan_cpu_machine_reset(X86CPU *cpu)
{
    drop_host_state(&cpu->env);
    cpu->env.domain = (X86DomainState) { };
}
