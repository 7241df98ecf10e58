// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

// Where things lie in a VM (guest physical), and what the secure loader is told. Freestanding.
// The loader trusts none of it before it is measured: docs/spec/measurements.md.

namespace banyan::boot {

inline constexpr std::uint64_t kZeroPage = 0x1'0000;    // Linux boot_params, made by the loader
inline constexpr std::uint64_t kCommandLine = 0x1'1000; // NUL-terminated copy, made by the loader, 4 KiB at most
inline constexpr std::uint64_t kPageTables = 0x1'4000;  // identity map for the 64-bit entry, made by the loader, 32 KiB
inline constexpr std::uint64_t kStage0 = 0x2'0000;      // flat binary, entered at its first byte (32-bit)
inline constexpr std::uint64_t kSlb = 0x3'0000;         // secure loader block: 64 KiB, aligned to 64 KiB
inline constexpr std::uint64_t kSlbSize = 0x1'0000;
inline constexpr std::uint64_t kBootInfo = 0x4'0000;       // struct BootInfo
inline constexpr std::uint64_t kCommandLineRaw = 0x4'1000; // as measured
inline constexpr std::uint64_t kAcpi = 0x8'0000;           // RSDP first; 64 KiB, e820 type 3
inline constexpr std::uint64_t kAcpiSize = 0x1'0000;
inline constexpr std::uint64_t kLowEnd = 0xA'0000; // end of the low range; the legacy hole follows
inline constexpr std::uint64_t kHighStart = 0x10'0000;
inline constexpr std::uint64_t kKernelRaw = 0x600'0000; // the bzImage as in the package, 96 MiB
inline constexpr std::uint64_t kKernelRun = 0x100'0000; // its protected-mode part is moved here, 16 MiB
inline constexpr std::uint64_t kLogSize = 0x1'0000;     // event log: last 64 KiB of RAM, e820 type 4
inline constexpr std::uint64_t kMinRam = 0x1000'0000;   // 256 MiB

inline constexpr std::uint32_t kBootInfoMagic = 0x4259'4E42; // "BNYB"
inline constexpr std::size_t kMaxE820 = 12;

enum class E820Type : std::uint32_t { kRam = 1, kReserved = 2, kAcpi = 3, kNvs = 4 };

struct E820 {
    std::uint64_t base;
    std::uint64_t size;
    E820Type type;
    std::uint32_t reserved;
};

struct Extent {
    std::uint64_t base;
    std::uint64_t size; // bytes
};

struct BootInfo {
    std::uint32_t magic; // kBootInfoMagic
    std::uint32_t size;  // sizeof(BootInfo)
    Extent kernel;
    Extent initrd;
    Extent command_line; // without NUL
    Extent acpi;         // base is the RSDP
    Extent log;
    std::uint64_t ram_end; // guest physical end of RAM below 4 GiB
    std::uint32_t e820_count;
    std::uint32_t reserved;
    E820 e820[kMaxE820];
};
static_assert(sizeof(E820) == 24);
static_assert(sizeof(BootInfo) == 8 + 5 * 16 + 16 + 12 * 24);

// ---- what is measured, in order ----------------------------------------------------------------------------------
// PCR 17: the secure loader block (by SKINIT, over its measured length), kernel, initrd, command line
// PCR 18: boot info, ACPI tables
// Each in every active bank (SHA-1, SHA-256, SHA-384): extend(PCR, H_bank(bytes)). Events in the log carry these digests.

inline constexpr std::uint32_t kPcrCode = 17;
inline constexpr std::uint32_t kPcrPlatform = 18;
inline constexpr std::uint32_t kEventSkinit = 0x502; // text "SKINIT"
inline constexpr std::uint32_t kEventIpl = 0x0D;     // EV_IPL; texts below, without NUL

inline constexpr const char *kTextSkinit = "SKINIT";
inline constexpr const char *kTextKernel = "kernel";
inline constexpr const char *kTextInitrd = "initrd";
inline constexpr const char *kTextCommandLine = "command line";
inline constexpr const char *kTextBootInfo = "boot info";
inline constexpr const char *kTextAcpi = "acpi tables";

/// The header of a secure loader block. APM 2, 15.27.1.
struct SlbHeader {
    std::uint16_t entry;    // offset of the first instruction
    std::uint16_t measured; // bytes that SKINIT measures
};

} // namespace banyan::boot
