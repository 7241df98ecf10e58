// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

// The domain table as software sees it: windows, registers, descriptor.
// Specification: docs/spec/domain-table.md. Freestanding: the hypervisor, guests and the hardware model share this file.

namespace banyan::dt {

// ---- windows (physical addresses) -----------------------------------------------------------------------------

inline constexpr std::uint64_t kVtpmBase = 0xFED4'0000; // five localities of 4 KiB
inline constexpr std::uint64_t kVtpmSize = 0x5000;
inline constexpr std::uint64_t kOwnPageBase = 0xFED5'0000; // each domain sees its own page here
inline constexpr std::uint64_t kOwnPageSize = 0x1000;
inline constexpr std::uint64_t kControlBase = 0xFED5'1000; // host (domain 0) only
inline constexpr std::uint64_t kControlSize = 0x2000;
inline constexpr std::uint64_t kBlackHoleBase = 0xFED5'3000; // where refused accesses end
inline constexpr std::uint64_t kBlackHoleSize = 0x1000;
inline constexpr std::uint64_t kVtpmWindowsBase = 0xFED6'0000; // further vTPM windows of kVtpmSize each: the host's
inline constexpr std::uint64_t kVtpmWindowsEnd = 0xFEE0'0000;  // where its machine puts them, a domain's side by side
inline constexpr std::uint64_t kLapicBase = 0xFEE0'0000;
inline constexpr std::uint64_t kLapicSize = 0x1000;

// Device on bus 0 whose functions lift a launch window; their pages of ECAM are in every domain's reach, banked.
inline constexpr std::uint32_t kDevDevice = 0x18;
inline constexpr std::uint32_t kDevFunction = 3;
inline constexpr std::uint32_t kDevLinkFunction = 0;

inline constexpr std::uint32_t kMaxDomains = 15; // 1..15; 0 is the host
inline constexpr std::uint32_t kMaxCores = 64;
inline constexpr std::uint64_t kPageSize = 0x1000;

// ---- processor interface ----------------------------------------------------------------------------------------

/// MSR: the domain that this core joins at its next VMRUN. Host only. #GP unless the domain is SEALED or RUNNING and
/// the core is in its mask. 0 leaves.
inline constexpr std::uint32_t kMsrDomain = 0xC001'0F00;

/// #VMEXIT codes of a domain. All are terminal: the domain is STOPPING when the host sees one.
enum class ExitCode : std::uint64_t {
    kShutdown = 0x7F,             // APM 2, appendix C: VMEXIT_SHUTDOWN
    kDomainStop = 0x0BAD'0001,    // the stop line, or the domain ended itself through its own page
    kInvalid = ~std::uint64_t{0}, // VMEXIT_INVALID: the domain was not SEALED or RUNNING
};

// ---- own page: one per domain, same address for all, selected by the bus tag -----------------------------------

inline constexpr std::uint32_t kOwnId = 0x4459'4E42; // "BNYD"

namespace own {
inline constexpr std::uint32_t kId = 0x000;      // r   u32
inline constexpr std::uint32_t kVersion = 0x004; // r   u32, 1
inline constexpr std::uint32_t kDomain = 0x008;  // r   u32, number of the caller's domain (0 for the host)
inline constexpr std::uint32_t kGate = 0x00C;    // r   u32, 1 once the host has opened the start gate
inline constexpr std::uint32_t kSleepControl =
    0x010; // w   u8, ACPI SLEEP_CONTROL: SLP_EN (bit 5) ends the domain, "poweroff"
inline constexpr std::uint32_t kSleepStatus = 0x011; // r   u8, ACPI SLEEP_STATUS, 0
inline constexpr std::uint32_t kReset = 0x012;       // w   u8, kResetValue ends the domain, "reboot"
inline constexpr std::uint32_t kSlDev =
    0x018; // rw  u32, bit 0 reads 1 while the launch window is closed to DMA; write 0 to lift
inline constexpr std::uint32_t kWallTime = 0x020;     // r   u64, seconds since 1970, from the host's clock
inline constexpr std::uint32_t kNonce = 0x040;        // rw  64 bytes
inline constexpr std::uint32_t kReportStart = 0x080;  // w   u32, length of the nonce (1..64): starts the domain report
inline constexpr std::uint32_t kReportStatus = 0x084; // r   u32, ReportStatus
inline constexpr std::uint32_t kReportSize = 0x088;   // r   u32, bytes at kReportData
inline constexpr std::uint32_t kReportData = 0x800;   // r   up to 2 KiB, COSE_Sign1
inline constexpr std::uint32_t kReportMax = 0x800;
inline constexpr std::uint32_t kNonceMax = 64;
inline constexpr std::uint8_t kSleepEnable = 1u << 5; // ACPI 6.4, 4.8.3.7
inline constexpr std::uint8_t kResetValue = 0x52;
} // namespace own

enum class ReportStatus : std::uint32_t { kIdle = 0, kBusy = 1, kReady = 2, kFailed = 3 };

// ---- control window: host only -----------------------------------------------------------------------------------

namespace control {
inline constexpr std::uint32_t kId = 0x000;      // r   u32, kOwnId
inline constexpr std::uint32_t kVersion = 0x004; // r   u32, 1
inline constexpr std::uint32_t kDomains = 0x008; // r   u32, kMaxDomains
inline constexpr std::uint32_t kSelect = 0x010;  // rw  u32, domain that the registers below speak of (1..kMaxDomains)
inline constexpr std::uint32_t kCommand = 0x014; // w   u32, Command
inline constexpr std::uint32_t kStatus = 0x018;  // r   u32, Status of the selected domain's last command
inline constexpr std::uint32_t kState = 0x01C;   // r   u32, State
inline constexpr std::uint32_t kReason = 0x020;  // r   u32, EndReason
inline constexpr std::uint32_t kStartCount = 0x028;    // r   u64
inline constexpr std::uint32_t kLaunchCount = 0x030;   // r   u64
inline constexpr std::uint32_t kGateOpen = 0x038;      // w   u64, bit d opens the start gate of domain d; all at once
inline constexpr std::uint32_t kDigest = 0x040;        // r   48 bytes, SHA-384 of the sealed descriptor
inline constexpr std::uint32_t kNonce = 0x080;         // rw  64 bytes, for kReceipt
inline constexpr std::uint32_t kNonceSize = 0x0C0;     // rw  u32
inline constexpr std::uint32_t kReceiptStatus = 0x0C4; // r u32, ReportStatus
inline constexpr std::uint32_t kReceiptSize = 0x0C8;   // r   u32
inline constexpr std::uint32_t kReceiptData = 0x800;   // r   up to 2 KiB, COSE_Sign1
inline constexpr std::uint32_t kDescriptor = 0x1000; // rw  the selected domain's Descriptor; writable in BUILDING only
} // namespace control

enum class Command : std::uint32_t {
    kCreate = 1,  // EMPTY -> BUILDING
    kSeal = 2,    // BUILDING -> SEALED; status kBusy until the vTPM instance is up
    kStop = 3,    // RUNNING -> STOPPING (then DIRTY); SEALED -> DIRTY
    kDelete = 4,  // BUILDING, DIRTY -> EMPTY; the hardware scrubs the ranges first and unbinds the instance
    kErase = 5,   // as kDelete, and the vTPM instance is zeroised for good
    kReceipt = 6, // SEALED and later: a signed statement of what was created
};

enum class Status : std::uint32_t {
    kOk = 0,
    kBusy = 1,
    kBadState = 2,      // the command is not allowed in the present state
    kBadDescriptor = 3, // a field is out of its range; kStatusDetail not needed: docs/spec lists the checks in order
    kOverlap = 4,       // RAM, cores, windows, functions or instance belong to another domain or to the platform
    kNoInstance = 5,    // the vTPM instance does not exist, is bound elsewhere, or did not come up
    kBadDomain = 6,     // kSelect is out of range
};

enum class State : std::uint32_t { kEmpty = 0, kBuilding = 1, kSealed = 2, kRunning = 3, kStopping = 4, kDirty = 5 };

enum class EndReason : std::uint32_t {
    kNone = 0,
    kPoweroff = 1, // guest wrote SLEEP_CONTROL
    kReboot = 2,   // guest wrote RESET
    kShutdown = 3, // triple fault
    kStopped = 4,  // Command::kStop
    kSibling = 5,  // SKINIT while a sibling core was not in wait-for-SIPI
    kReset = 6,    // the machine was reset
};

// ---- descriptor --------------------------------------------------------------------------------------------------

inline constexpr std::uint32_t kDescriptorMagic = 0x5659'4E42; // "BNYV"
inline constexpr std::uint16_t kDescriptorVersion = 2;

inline constexpr std::size_t kMaxRanges = 4;
inline constexpr std::size_t kMaxWindows = 4;
inline constexpr std::size_t kMaxFunctions = 4;
inline constexpr std::size_t kMaxPorts = 16;
inline constexpr std::size_t kMaxMsrs = 16;
inline constexpr std::size_t kMaxFurtherVtpms = 8;

/// RAM: guest physical [gpa, gpa+size) is physical [hpa, hpa+size). All multiples of 4 KiB; ascending by gpa.
struct Range {
    std::uint64_t gpa;
    std::uint64_t hpa;
    std::uint64_t size;
};

/// MMIO that the domain reaches at its own physical address, besides vTPM, own page and LAPIC page. 4 KiB multiples.
struct Window {
    std::uint64_t base;
    std::uint64_t size;
};

/// All functions behind one root port on bus 0.
struct RootPort {
    std::uint8_t devfn;     // of the root port on bus 0
    std::uint8_t secondary; // bus number behind it
    std::uint8_t reserved[6];
};

enum class PortAction : std::uint8_t { kDeny = 0, kAllow = 1 };

/// Ports first..last. Denied reads give `value` in every byte; denied writes vanish. Later entries win over the profile.
struct PortRule {
    std::uint16_t first;
    std::uint16_t last;
    PortAction action;
    std::uint8_t value;
    std::uint8_t reserved[2];
};

enum class MsrAction : std::uint8_t {
    kFault = 0,   // #GP(0)
    kPass = 1,    // the core's own register; a write changes only bits of write_mask
    kConstant = 2 // reads `value`; writes vanish
};

struct MsrRule {
    std::uint32_t msr;
    MsrAction action;
    std::uint8_t reserved[3];
    std::uint64_t value;
    std::uint64_t write_mask;
};

/// How the boot core begins: 32-bit protected mode, flat segments, paging off, interrupts off, GIF 1.
struct Entry {
    std::uint32_t eip;
    std::uint32_t eax;
    std::uint32_t ebx;
    std::uint32_t esi;
};

namespace flag {
inline constexpr std::uint32_t kDebug = 1u << 0; // platform certifies insecure:debug
inline constexpr std::uint32_t kAll = kDebug;
} // namespace flag

/// What a domain is and may touch. Little-endian, no padding; its SHA-384 over all sizeof(Descriptor) bytes is the
/// descriptor digest in reports and receipts. Unused entries and reserved bytes are zero (SEAL checks).
struct Descriptor {
    std::uint32_t magic;   // kDescriptorMagic
    std::uint16_t version; // kDescriptorVersion
    std::uint16_t size;    // sizeof(Descriptor)
    char name[32];         // NUL-padded, at least one NUL, [a-z0-9-]
    std::uint64_t core_mask;
    std::uint32_t boot_core;
    std::uint32_t vtpm_instance; // 1.. (0 is the host's)
    std::uint32_t flags;
    std::uint32_t msr_profile;  // 1: linux (docs/spec/domain-table.md)
    std::uint32_t port_profile; // 1: all denied, ones; 0x42 and 0x71 read 0
    std::uint32_t range_count;
    std::uint32_t window_count;
    std::uint32_t port_count;
    std::uint32_t msr_count;
    std::uint32_t root_port_count;
    Entry entry;
    Range ranges[kMaxRanges];
    Window windows[kMaxWindows];
    RootPort root_ports[kMaxFunctions];
    PortRule ports[kMaxPorts];
    MsrRule msrs[kMaxMsrs];
    std::uint32_t further_vtpms[kMaxFurtherVtpms]; // instances behind its further windows, in order; then zeros
};

static_assert(sizeof(Descriptor) == 8 + 32 + 8 + 4 * 10 + 16 + 4 * 24 + 4 * 16 + 4 * 8 + 16 * 8 + 16 * 24 + 8 * 4);
static_assert(sizeof(Descriptor) == 840);
static_assert(offsetof(Descriptor, entry) == 88);
static_assert(offsetof(Descriptor, ranges) == 104);
static_assert(offsetof(Descriptor, windows) == 200);
static_assert(offsetof(Descriptor, root_ports) == 264);
static_assert(offsetof(Descriptor, ports) == 296);
static_assert(offsetof(Descriptor, msrs) == 424);
static_assert(offsetof(Descriptor, further_vtpms) == 808);

// A domain's vTPM windows: 0 at kVtpmBase, the further ones from kVtpmWindowsBase on.
inline constexpr std::uint32_t kVtpmWindows = 1 + kMaxFurtherVtpms;

[[nodiscard]] constexpr std::uint64_t vtpm_window(std::uint32_t number)
{
    return number == 0 ? kVtpmBase : kVtpmWindowsBase + (number - 1) * kVtpmSize;
}

/// The instance behind window `number`; 0: the domain has no such window.
[[nodiscard]] constexpr std::uint32_t vtpm_behind(const Descriptor &d, std::uint32_t number)
{
    return number == 0 ? d.vtpm_instance : d.further_vtpms[number - 1];
}

} // namespace banyan::dt
