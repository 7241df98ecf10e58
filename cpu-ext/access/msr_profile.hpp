// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "banyan/arch/domain_table.hpp"

// MSR profile 1, "linux": what unmodified Linux 6.1 and 6.12 touch on an EPYC processor without the hypervisor bit.
// Names: AMD APM 2, appendix A, and the Processor Programming Reference of family 17h. Whatever no line names is #GP(0).
// Facts only; the look-up is in access.cpp, the table as a page in docs/spec/domain-table.md.

namespace banyan::access {

struct MsrFact {
    std::uint32_t first, last;
    dt::MsrAction action;
    std::uint64_t value;      // kConstant
    std::uint64_t write_mask; // kPass; 0: a write vanishes
    std::string_view name;
    std::string_view reason;
};

inline constexpr std::uint64_t kAllBits = ~std::uint64_t{0};
inline constexpr std::uint64_t kHwcrTscFreqSel = std::uint64_t{1} << 24; // TSC runs at the P0 frequency
inline constexpr std::uint64_t kDeCfgLfence = std::uint64_t{1} << 1;     // LFENCE is dispatch serialising

// q35's configuration space as its firmware lays it out; BusRange (bits 5:2) 8, MmioCfgEn.
inline constexpr std::uint64_t kMmioConf = 0xB000'0000 | 8 << 2 | 1;

inline constexpr auto kPass = dt::MsrAction::kPass;
inline constexpr auto kConstant = dt::MsrAction::kConstant;

inline constexpr std::array kMsrProfileLinux{
    MsrFact{0x0000'0010, 0x0000'0010, kPass, 0, 0, "TSC",
            "read by the clock; a write would skew the other cores' view"},
    MsrFact{0x0000'001B, 0x0000'001B, kPass, 0, 0, "APIC_BASE",
            "read at boot; moving or disabling the page, or x2APIC mode, would leave the filtered path"},
    MsrFact{0x0000'003B, 0x0000'003B, kPass, 0, kAllBits, "TSC_ADJUST", "the core's own, checked and set by the clock"},
    MsrFact{0x0000'0048, 0x0000'0048, kPass, 0, kAllBits, "SPEC_CTRL", "the core's own, written at task switch"},
    MsrFact{0x0000'0049, 0x0000'0049, kPass, 0, kAllBits, "PRED_CMD",
            "the core's own, write-only, written at task switch"},
    MsrFact{0x0000'008B, 0x0000'008B, kPass, 0, 0, "PATCH_LEVEL", "read by the microcode driver"},
    MsrFact{0x0000'00FE, 0x0000'00FE, kPass, 0, 0, "MTRRcap", "read when MTRRs are set up"},
    MsrFact{0x0000'010A, 0x0000'010A, kConstant, 0, 0, "ARCH_CAPABILITIES", "no claim about immunity"},
    MsrFact{0x0000'0174, 0x0000'0176, kPass, 0, kAllBits, "SYSENTER_CS, _ESP, _EIP", "system calls"},
    MsrFact{0x0000'0179, 0x0000'017B, kConstant, 0, 0, "MCG_CAP, _STAT, _CTL", "no machine check banks"},
    MsrFact{0x0000'01A0, 0x0000'01A0, kConstant, 0, 0, "MISC_ENABLE", "not an AMD register; saved and restored unseen"},
    MsrFact{0x0000'01D9, 0x0000'01DE, kConstant, 0, 0, "DBG_CTL, LastBranch, LastInt", "no branch recording"},
    MsrFact{0x0000'0200, 0x0000'020F, kPass, 0, kAllBits, "MTRRphysBase, MTRRphysMask", "bookkeeping of one core"},
    MsrFact{0x0000'0250, 0x0000'0250, kPass, 0, kAllBits, "MTRRfix64K", "bookkeeping of one core"},
    MsrFact{0x0000'0258, 0x0000'0259, kPass, 0, kAllBits, "MTRRfix16K", "bookkeeping of one core"},
    MsrFact{0x0000'0268, 0x0000'026F, kPass, 0, kAllBits, "MTRRfix4K", "bookkeeping of one core"},
    MsrFact{0x0000'0277, 0x0000'0277, kPass, 0, kAllBits, "PAT", "page attributes"},
    MsrFact{0x0000'02FF, 0x0000'02FF, kPass, 0, kAllBits, "MTRRdefType", "bookkeeping of one core"},
    MsrFact{0x0000'0400, 0x0000'047F, kConstant, 0, 0, "MCi_CTL, _STATUS, _ADDR, _MISC", "no machine check banks"},
    MsrFact{0x0000'06E0, 0x0000'06E0, kPass, 0, kAllBits, "TSC_DEADLINE", "the core's own timer"},
    MsrFact{0x0000'0DA0, 0x0000'0DA0, kConstant, 0, 0, "XSS", "no supervisor state components"},
    MsrFact{0xC000'0080, 0xC000'0080, kPass, 0, kAllBits, "EFER",
            "long mode, NX, SYSCALL; SVME is a shadow bit, the processor's rules hold"},
    MsrFact{0xC000'0081, 0xC000'0084, kPass, 0, kAllBits, "STAR, LSTAR, CSTAR, SFMASK", "system calls"},
    MsrFact{0xC000'0100, 0xC000'0103, kPass, 0, kAllBits, "FS_BASE, GS_BASE, KernelGSbase, TSC_AUX",
            "per-CPU data and getcpu"},
    MsrFact{0xC000'0408, 0xC000'040A, kConstant, 0, 0, "MC4_MISC", "no machine check banks"},
    MsrFact{0xC001'0000, 0xC001'0007, kConstant, 0, 0, "PerfEvtSel, PerfCtr",
            "no counters: the probe writes, reads back 0 and gives up"},
    MsrFact{0xC001'0010, 0xC001'0010, kConstant, 0, 0, "SYSCFG",
            "belongs to the host (memory encryption, TOM2, fixed MTRR extension)"},
    MsrFact{0xC001'0015, 0xC001'0015, kConstant, kHwcrTscFreqSel, 0, "HWCR",
            "TscFreqSel set, else Linux calls the firmware broken; all else belongs to the host"},
    MsrFact{0xC001'001A, 0xC001'001A, kConstant, 0, 0, "TOP_MEM", "belongs to the host"},
    MsrFact{0xC001'001D, 0xC001'001D, kConstant, 0, 0, "TOP_MEM2", "belongs to the host"},
    MsrFact{0xC001'001F, 0xC001'001F, kConstant, 0, 0, "NB_CFG", "belongs to the host"},
    MsrFact{0xC001'0020, 0xC001'0020, kConstant, 0, 0, "PATCH_LOADER", "microcode updates vanish"},
    MsrFact{0xC001'0030, 0xC001'0035, kConstant, 0, 0, "Processor Name String", "CPUID has it; a write is ignored"},
    MsrFact{0xC001'0055, 0xC001'0055, kConstant, 0, 0, "Interrupt Pending Message", "no C1E"},
    MsrFact{0xC001'0058, 0xC001'0058, kConstant, kMmioConf, 0, "MMIO Configuration Base",
            "enabled, 256 buses: a loader finds 00:18.0 and 00:18.3 there"},
    MsrFact{0xC001'0061, 0xC001'0071, kConstant, 0, 0, "P-state registers", "one P-state"},
    MsrFact{0xC001'0114, 0xC001'0114, kPass, 0, kAllBits, "VM_CR",
            "R_INIT, DPD and DIS_A20M after SKINIT; the processor banks it by domain"},
    MsrFact{0xC001'011F, 0xC001'011F, kConstant, 0, 0, "VIRT_SPEC_CTRL", "not offered"},
    MsrFact{0xC001'0131, 0xC001'0131, kConstant, 0, 0, "SEV_STATUS", "no encryption active"},
    MsrFact{0xC001'0140, 0xC001'0141, kConstant, 0, 0, "OSVW_ID_Length, OSVW_Status", "no errata listed"},
    MsrFact{0xC001'0200, 0xC001'020B, kConstant, 0, 0, "PERF_CTL, PERF_CTR", "as PerfEvtSel"},
    MsrFact{0xC001'0230, 0xC001'023B, kConstant, 0, 0, "L3 counters", "as PerfEvtSel"},
    MsrFact{0xC001'0240, 0xC001'0247, kConstant, 0, 0, "Northbridge counters", "as PerfEvtSel"},
    MsrFact{0xC001'1000, 0xC001'1005, kConstant, 0, 0, "CPUID overrides", "CPUID is the platform's word"},
    MsrFact{0xC001'1020, 0xC001'1028, kConstant, 0, 0, "LS_CFG, IC_CFG, DC_CFG, FP_CFG, ...",
            "errata work-arounds vanish"},
    MsrFact{0xC001'1029, 0xC001'1029, kConstant, kDeCfgLfence, 0, "DE_CFG", "LFENCE serialises already"},
    MsrFact{0xC001'102A, 0xC001'102F, kConstant, 0, 0, "BU_CFG2, LS_CFG2, BP_CFG, ...", "errata work-arounds vanish"},
    MsrFact{0xC001'10E2, 0xC001'10E3, kConstant, 0, 0, "DE_CFG2", "errata work-arounds vanish"},
};

// Out of a domain's reach for good: no rule of a descriptor may pass these to the core. They read as a constant where the
// profile or a rule gives one (APIC_BASE alone is read from the core, by the profile) and are #GP(0) otherwise.
struct MsrForbidden {
    std::uint32_t first, last;
    std::string_view name;
    std::string_view reason;
};

inline constexpr std::array kMsrForbidden{
    MsrForbidden{0x0000'001B, 0x0000'001B, "APIC_BASE", "moves or disables the filtered LAPIC page"},
    MsrForbidden{0x0000'0800, 0x0000'08FF, "x2APIC", "a door past the filtered LAPIC page"},
    MsrForbidden{0xC001'0010, 0xC001'001A, "SYSCFG, HWCR, IORR, TOP_MEM", "the host's memory map"},
    MsrForbidden{0xC001'001D, 0xC001'0020, "TOP_MEM2, NB_CFG, PATCH_LOADER", "the host's memory map and microcode"},
    MsrForbidden{0xC001'0050, 0xC001'0058, "I/O traps, SMI on I/O, MMIO configuration", "the host's"},
    MsrForbidden{0xC001'0111, 0xC001'0113, "SMM_BASE, SMM_ADDR, SMM_MASK", "the host's"},
    MsrForbidden{0xC001'0115, 0xC001'0118, "IGNNE, SMM_CTL, VM_HSAVE_PA, SVM_KEY",
                 "where #VMEXIT restores the host from"},
    MsrForbidden{0xC001'011A, 0xC001'011E, "VM_HSAVE and SVM extensions", "the host's"},
    MsrForbidden{0xC001'0130, 0xC001'0133, "GHCB, SEV_STATUS, RMP", "the host's"},
    MsrForbidden{dt::kMsrDomain, dt::kMsrDomain, "domain register", "says who a core is"},
};

template <typename Table>
consteval bool msrs_ascend(const Table &table)
{
    for (std::size_t i = 0; i < table.size(); ++i) {
        if (table[i].first > table[i].last || (i > 0 && table[i - 1].last >= table[i].first)) {
            return false;
        }
    }
    return true;
}

/// kFault is said by absence; a constant has no mask, a register that passes no value, and no write reaches a forbidden one.
consteval bool facts_are_sane()
{
    for (const MsrFact &fact : kMsrProfileLinux) {
        const bool sane =
            (fact.action == kPass && fact.value == 0) || (fact.action == kConstant && fact.write_mask == 0);
        if (!sane) {
            return false;
        }
        for (const MsrForbidden &forbidden : kMsrForbidden) {
            if (fact.write_mask != 0 && fact.first <= forbidden.last && forbidden.first <= fact.last) {
                return false;
            }
        }
    }
    return true;
}

static_assert(msrs_ascend(kMsrProfileLinux) && facts_are_sane());
static_assert(msrs_ascend(kMsrForbidden));

} // namespace banyan::access
