// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>

#include "banyan/arch/boot_info.hpp"
#include "guest/loader/hash/digest.hpp"

// The Linux/x86 boot protocol: Documentation/arch/x86/boot.rst and zero-page.rst of the kernel.

namespace banyan::loader {

/// Offsets in boot_params, which the first sectors of a bzImage mirror from setup_header on.
namespace zero_page {
inline constexpr std::size_t kSize = 0x1000;
inline constexpr std::size_t kAcpiRsdp = 0x070;        // u64
inline constexpr std::size_t kE820Entries = 0x1E8;     // u8
inline constexpr std::size_t kSetupHeader = 0x1F1;     // first byte that is copied from the image
inline constexpr std::size_t kSetupSects = 0x1F1;      // u8
inline constexpr std::size_t kSysSize = 0x1F4;         // u32, in 16-byte units
inline constexpr std::size_t kBootFlag = 0x1FE;        // u16
inline constexpr std::size_t kHeaderEnd = 0x201;       // u8: the header ends at 0x202 plus this
inline constexpr std::size_t kHeader = 0x202;          // u32, "HdrS"
inline constexpr std::size_t kVersion = 0x206;         // u16
inline constexpr std::size_t kTypeOfLoader = 0x210;    // u8
inline constexpr std::size_t kLoadFlags = 0x211;       // u8
inline constexpr std::size_t kCode32Start = 0x214;     // u32
inline constexpr std::size_t kRamdiskImage = 0x218;    // u32
inline constexpr std::size_t kRamdiskSize = 0x21C;     // u32
inline constexpr std::size_t kCmdLinePtr = 0x228;      // u32
inline constexpr std::size_t kInitrdAddrMax = 0x22C;   // u32
inline constexpr std::size_t kKernelAlignment = 0x230; // u32
inline constexpr std::size_t kRelocatable = 0x234;     // u8
inline constexpr std::size_t kXLoadFlags = 0x236;      // u16
inline constexpr std::size_t kCmdlineSize = 0x238;     // u32
inline constexpr std::size_t kSetupData = 0x250;       // u64
inline constexpr std::size_t kInitSize = 0x260;        // u32
inline constexpr std::size_t kHeaderMax = 0x290;       // no header reaches further
inline constexpr std::size_t kE820Table = 0x2D0;       // 20 bytes an entry
inline constexpr std::size_t kE820EntrySize = 20;

inline constexpr std::uint16_t kBootFlagValue = 0xAA55;
inline constexpr std::uint32_t kHeaderMagic = 0x5372'6448; // "HdrS"
inline constexpr std::uint16_t kVersionMin = 0x020C;       // 2.12: xloadflags
inline constexpr std::uint8_t kLoadedHigh = 1u << 0;
inline constexpr std::uint8_t kKeepSegments = 1u << 6;
inline constexpr std::uint16_t kXlfKernel64 = 1u << 0;
inline constexpr std::uint8_t kUndefinedLoader = 0xFF;
inline constexpr std::uint64_t kEntry64 = 0x200; // from the protected-mode part's first byte
} // namespace zero_page

enum class KernelFault : std::uint8_t {
    kNone,
    kTooShort,
    kNoHeader,
    kVersion,
    kNot64,
    kNotRelocatable,
    kAlignment,
    kTruncated,
    kInitSize,
    kNoRoom,
    kInitrdTooHigh,
    kCommandLineTooLong,
};

const char *describe(KernelFault fault);

/// What booting needs to know of a bzImage; from its setup header, checked.
struct KernelLayout {
    std::uint32_t code_offset; // of the protected-mode part in the image
    std::uint32_t code_size;
    std::uint32_t init_size;    // memory the kernel wants from kKernelRun on
    std::uint32_t header_end;   // offset in the image and in boot_params
    std::uint32_t initrd_max;   // highest address an initrd's byte may have
    std::uint32_t cmdline_size; // without NUL
};

/// Reads the header of a measured image.
[[nodiscard]] KernelFault parse_kernel(Bytes image, KernelLayout &layout);

/// Whether that kernel can run at boot::kKernelRun beside everything else.
[[nodiscard]] KernelFault check_placement(const boot::BootInfo &info, const KernelLayout &layout);

/// Fills boot_params. `info` has passed check_boot_info(), the kernel check_placement().
void make_boot_params(std::span<std::uint8_t, zero_page::kSize> page, Bytes image, const KernelLayout &layout,
                      const boot::BootInfo &info);

} // namespace banyan::loader
