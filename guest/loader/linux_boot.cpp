// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/linux_boot.hpp"

#include <algorithm>

#include "guest/loader/boot_info_check.hpp"

namespace banyan::loader {
namespace {

using namespace zero_page;

template <typename T>
T get(Bytes bytes, std::size_t offset)
{
    T value{};
    __builtin_memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

template <typename T>
void put(std::span<std::uint8_t> bytes, std::size_t offset, T value)
{
    __builtin_memcpy(bytes.data() + offset, &value, sizeof(T));
}

} // namespace

const char *describe(KernelFault fault)
{
    switch (fault) {
    case KernelFault::kNone:
        return "no fault";
    case KernelFault::kTooShort:
        return "it is shorter than a setup header";
    case KernelFault::kNoHeader:
        return "it has no Linux setup header";
    case KernelFault::kVersion:
        return "its boot protocol is older than 2.12";
    case KernelFault::kNot64:
        return "it has no 64-bit entry";
    case KernelFault::kNotRelocatable:
        return "it is not relocatable";
    case KernelFault::kAlignment:
        return "its alignment does not allow 16 MiB";
    case KernelFault::kTruncated:
        return "it is shorter than its header says";
    case KernelFault::kInitSize:
        return "its init_size is smaller than its code";
    case KernelFault::kNoRoom:
        return "it does not fit at 16 MiB beside the rest";
    case KernelFault::kInitrdTooHigh:
        return "the initrd lies higher than it allows";
    case KernelFault::kCommandLineTooLong:
        return "the command line is longer than it allows";
    }
    return "unknown";
}

KernelFault parse_kernel(Bytes image, KernelLayout &layout)
{
    if (image.size() < kHeaderMax) {
        return KernelFault::kTooShort;
    }
    if (get<std::uint16_t>(image, kBootFlag) != kBootFlagValue || get<std::uint32_t>(image, kHeader) != kHeaderMagic) {
        return KernelFault::kNoHeader;
    }
    if (get<std::uint16_t>(image, kVersion) < kVersionMin) {
        return KernelFault::kVersion;
    }
    layout.header_end = static_cast<std::uint32_t>(kHeader + image[kHeaderEnd]);
    if (layout.header_end < kInitSize + 4 || layout.header_end > kHeaderMax) {
        return KernelFault::kNoHeader;
    }
    if ((image[kLoadFlags] & kLoadedHigh) == 0 || (get<std::uint16_t>(image, kXLoadFlags) & kXlfKernel64) == 0) {
        return KernelFault::kNot64;
    }
    if (image[kRelocatable] == 0) {
        return KernelFault::kNotRelocatable;
    }
    const auto alignment = get<std::uint32_t>(image, kKernelAlignment);
    if (alignment == 0 || boot::kKernelRun % alignment != 0) {
        return KernelFault::kAlignment;
    }
    const std::uint32_t setup_sects = image[kSetupSects] == 0 ? 4u : image[kSetupSects];
    layout.code_offset = (setup_sects + 1) * 512;
    const std::uint64_t code_size = std::uint64_t{get<std::uint32_t>(image, kSysSize)} * 16;
    // A signature may follow the code; the last paragraph may be cut short.
    if (image.size() <= layout.code_offset || code_size > image.size() - layout.code_offset + 15 ||
        code_size <= kEntry64) {
        return KernelFault::kTruncated;
    }
    layout.code_size =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(code_size, image.size() - layout.code_offset));
    layout.init_size = get<std::uint32_t>(image, kInitSize);
    if (layout.init_size < layout.code_size) {
        return KernelFault::kInitSize;
    }
    layout.initrd_max = get<std::uint32_t>(image, kInitrdAddrMax);
    layout.cmdline_size = get<std::uint32_t>(image, kCmdlineSize);
    return KernelFault::kNone;
}

KernelFault check_placement(const boot::BootInfo &info, const KernelLayout &layout)
{
    const boot::Extent run{boot::kKernelRun, layout.init_size};
    if (overlap(run, info.kernel) || overlap(run, info.initrd) || !lies_in(info, run, boot::E820Type::kRam)) {
        return KernelFault::kNoRoom;
    }
    if (info.initrd.size != 0 && info.initrd.base + info.initrd.size - 1 > layout.initrd_max) {
        return KernelFault::kInitrdTooHigh;
    }
    if (info.command_line.size > layout.cmdline_size) {
        return KernelFault::kCommandLineTooLong;
    }
    return KernelFault::kNone;
}

void make_boot_params(std::span<std::uint8_t, kSize> page, Bytes image, const KernelLayout &layout,
                      const boot::BootInfo &info)
{
    std::fill(page.begin(), page.end(), std::uint8_t{0});
    std::copy(image.begin() + kSetupHeader, image.begin() + layout.header_end, page.begin() + kSetupHeader);

    put(page, kTypeOfLoader, kUndefinedLoader);
    put(page, kLoadFlags, static_cast<std::uint8_t>((image[kLoadFlags] | kLoadedHigh) & ~kKeepSegments));
    put(page, kCode32Start, static_cast<std::uint32_t>(boot::kKernelRun));
    put(page, kRamdiskImage, static_cast<std::uint32_t>(info.initrd.base));
    put(page, kRamdiskSize, static_cast<std::uint32_t>(info.initrd.size));
    put(page, kCmdLinePtr, static_cast<std::uint32_t>(boot::kCommandLine));
    put(page, kSetupData, std::uint64_t{0});
    put(page, kAcpiRsdp, info.acpi.base);
    put(page, kE820Entries, static_cast<std::uint8_t>(info.e820_count));
    for (std::size_t i = 0; i < info.e820_count; ++i) {
        const std::size_t at = kE820Table + i * kE820EntrySize;
        put(page, at, info.e820[i].base);
        put(page, at + 8, info.e820[i].size);
        put(page, at + 16, static_cast<std::uint32_t>(info.e820[i].type));
    }
}

} // namespace banyan::loader
