// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"
#include "hypervisor/layout.hpp"

namespace banyan::hv {

enum class Phase : std::uint32_t {
    kNever = 0,    // waits for SIPI since the hypervisor's own launch
    kStarting = 1, // SIPI was sent
    kEntering = 2, // about to execute VMRUN, or in the domain
    kLeft = 3,     // halted after its #VMEXIT
};

/// Between core 0 and one other core. Core 0 writes while the core is kNever, kLeft or was sent INIT; then the core does.
struct Mailbox {
    std::atomic<Phase> phase;
    std::uint32_t domain;
    std::uint64_t exit_code; // valid in kLeft
};

// Local APIC registers. APM 2, 16.3.2, 16.5
namespace lapic {
inline constexpr std::uint32_t kEoi = 0x0B0;
inline constexpr std::uint32_t kSpurious = 0x0F0;
inline constexpr std::uint32_t kIcrLow = 0x300;
inline constexpr std::uint32_t kIcrHigh = 0x310;
inline constexpr std::uint32_t kLvtTimer = 0x320;
inline constexpr std::uint32_t kLvtLint0 = 0x350;
inline constexpr std::uint32_t kLvtLint1 = 0x360;
inline constexpr std::uint32_t kTimerInitial = 0x380;
inline constexpr std::uint32_t kTimerDivide = 0x3E0;
inline constexpr std::uint32_t kInit = 0x4500;
inline constexpr std::uint32_t kStartup = 0x4600;
inline constexpr std::uint32_t kPending = 1u << 12;
inline constexpr std::uint32_t kMasked = 1u << 16;
inline constexpr std::uint32_t kPeriodic = 1u << 17;
inline constexpr std::uint32_t kEnabled = 1u << 8;
} // namespace lapic

/// Brings cores into domains. A core's number is its APIC id.
/// Machine: read32, write32, idle, mailbox(core), prepare(core): code, stack and VMCB are ready for the core's SIPI.
template <typename Machine>
class Cores {
public:
    explicit Cores(Machine &machine) : machine_{machine} {}

    /// Starts a core that shall join the domain. False: it did not come up.
    [[nodiscard]] bool start(std::uint32_t core, std::uint32_t domain)
    {
        Mailbox &box = machine_.mailbox(core);
        if (box.phase != Phase::kNever) { // an INIT after SKINIT would only raise #SX in a core that still waits
            reset(core);
        }
        machine_.prepare(core);
        box.domain = domain;
        box.exit_code = 0;
        box.phase = Phase::kStarting;
        send(core, lapic::kStartup | kTrampoline / dt::kPageSize);
        for (unsigned poll = 0; box.phase == Phase::kStarting; ++poll) {
            if (poll >= kTicks) {
                return false;
            }
            machine_.idle();
        }
        return true;
    }

    /// To wait-for-SIPI. Not for a core that is in a domain.
    void reset(std::uint32_t core)
    {
        send(core, lapic::kInit);
        machine_.idle(); // the next tick may be near
        machine_.idle();
    }

    /// The exit code of the core's last #VMEXIT in the domain, or 0.
    [[nodiscard]] std::uint64_t exit_code(std::uint32_t core, std::uint32_t domain)
    {
        const Mailbox &box = machine_.mailbox(core);
        return box.phase == Phase::kLeft && box.domain == domain ? box.exit_code : 0;
    }

private:
    static constexpr unsigned kTicks = 300;

    void send(std::uint32_t core, std::uint32_t command)
    {
        machine_.write32(dt::kLapicBase + lapic::kIcrHigh, core << 24);
        machine_.write32(dt::kLapicBase + lapic::kIcrLow, command);
        while ((machine_.read32(dt::kLapicBase + lapic::kIcrLow) & lapic::kPending) != 0) {
        }
    }

    Machine &machine_;
};

} // namespace banyan::hv
