// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstddef>
#include <cstdint>

#include "banyan/arch/boot_info.hpp"

// Launches Linux with the secure loader on the bare core, without a hypervisor: what stage 0 and the management software do
// for a VM, by one small multiboot program on a plain q35 machine with a vTPM. Modules, by the word behind the file's name:
// "slb", "kernel", "initrd" and "command-line". Everything here is untrusted; the loader measures what it leads to.

extern "C" {
[[noreturn]] void barelaunch_main(std::uint32_t magic, std::uint32_t information);
extern const std::uint8_t ssdt_start[];
extern const std::uint8_t ssdt_end[];
}

using namespace banyan;

namespace {

constexpr std::uint32_t kMultibootMagic = 0x2BADB002;
constexpr std::uint32_t kTpmBase = 0xFED4'0000;
constexpr std::uint32_t kEcamBase = 0xB000'0000; // of q35: RAM below 4 GiB ends here at the latest

struct MultibootInfo { // Multiboot Specification 0.6.96, 3.3
    std::uint32_t flags;
    std::uint32_t memory[2];
    std::uint32_t boot_device;
    std::uint32_t command_line;
    std::uint32_t module_count;
    std::uint32_t modules;
    std::uint32_t symbols[4];
    std::uint32_t map_length;
    std::uint32_t map;
};
static_assert(offsetof(MultibootInfo, map) == 48);

struct Module {
    std::uint32_t start;
    std::uint32_t end;
    std::uint32_t text;
    std::uint32_t reserved;
};

struct [[gnu::packed]] MapEntry {
    std::uint32_t size; // of the rest
    std::uint64_t base;
    std::uint64_t length;
    std::uint32_t type;
};

struct [[gnu::packed]] Rsdp { // ACPI 6.4, 5.2.5.3; the first 20 bytes
    char signature[8];
    std::uint8_t checksum;
    char oem[6];
    std::uint8_t revision;
    std::uint32_t rsdt;
};

struct [[gnu::packed]] TableHeader { // ACPI 6.4, 5.2.6
    char signature[4];
    std::uint32_t length;
    std::uint8_t revision;
    std::uint8_t checksum;
    char oem[6];
    char oem_table[8];
    std::uint32_t oem_revision;
    std::uint32_t creator;
    std::uint32_t creator_revision;
};

struct [[gnu::packed]] Tpm2Table { // TCG ACPI Specification 1.4, table 9
    TableHeader header;
    std::uint16_t platform_class;
    std::uint16_t reserved;
    std::uint64_t control_area;
    std::uint32_t start_method;
    std::uint8_t parameters[12];
    std::uint32_t log_size;
    std::uint64_t log_address;
};
static_assert(sizeof(Tpm2Table) == 76);

void put(const char *text)
{
    for (; *text != '\0'; ++text) {
        asm volatile("outb %0, %1" : : "a"(*text), "Nd"(std::uint16_t{0xE9}));
    }
}

[[noreturn]] void stop(const char *why)
{
    put("barelaunch: ");
    put(why);
    put("\n");
    for (;;) {
        asm volatile("cli; hlt");
    }
}

void copy(std::uint64_t to, const void *from, std::size_t size)
{
    auto *destination = reinterpret_cast<std::uint8_t *>(static_cast<std::uintptr_t>(to));
    asm volatile("rep movsb" : "+D"(destination), "+S"(from), "+c"(size) : : "memory");
}

bool equal(const char *a, const char *b, std::size_t size)
{
    for (; size != 0; --size, ++a, ++b) {
        if (*a != *b) {
            return false;
        }
    }
    return true;
}

std::size_t length_of(const char *text)
{
    std::size_t length = 0;
    while (text[length] != '\0') {
        ++length;
    }
    return length;
}

struct Blob {
    const std::uint8_t *data = nullptr;
    std::size_t size = 0;
};

Blob find_module(const MultibootInfo &info, const char *name)
{
    const auto *modules = reinterpret_cast<const Module *>(info.modules);
    for (std::uint32_t i = 0; i < info.module_count; ++i) {
        const auto *text = reinterpret_cast<const char *>(modules[i].text);
        const std::size_t length = length_of(text);
        const std::size_t wanted = length_of(name);
        if (length > wanted && text[length - wanted - 1] == ' ' && equal(text + length - wanted, name, wanted)) {
            return {reinterpret_cast<const std::uint8_t *>(modules[i].start), modules[i].end - modules[i].start};
        }
    }
    return {};
}

std::uint8_t checksum_for(const void *bytes, std::size_t size)
{
    std::uint8_t sum = 0;
    for (std::size_t i = 0; i < size; ++i) {
        sum = static_cast<std::uint8_t>(sum + static_cast<const std::uint8_t *>(bytes)[i]);
    }
    return static_cast<std::uint8_t>(-sum);
}

/// The firmware's RSDP, which lies on a multiple of 16 in the BIOS area.
Rsdp find_rsdp()
{
    for (std::uint32_t at = 0xE'0000; at < 0x10'0000; at += 16) {
        Rsdp rsdp;
        __builtin_memcpy(&rsdp, reinterpret_cast<const void *>(at), sizeof(rsdp));
        if (equal(rsdp.signature, "RSD PTR ", 8) && checksum_for(&rsdp, sizeof(rsdp)) == 0) {
            return rsdp;
        }
    }
    stop("the firmware has left no ACPI tables");
}

/// Whether the TPM is a CRB. TCG PC Client PTP 1.05, sections 6.5.2 and 6.5.3: once the registers are valid.
bool tpm_is_crb()
{
    const auto read = [](std::uint32_t at) { return *reinterpret_cast<volatile std::uint32_t *>(kTpmBase + at); };
    while ((read(0) & 1u << 7) == 0) {
        asm volatile("pause");
    }
    return (read(0x30) & 0xF) == 1;
}

/// The firmware's tables under a root of our own that adds a TPM2 table and the TPM's device. Returns the size at kAcpi.
std::uint64_t make_acpi(const boot::Extent &log)
{
    constexpr std::uint32_t kTpm2At = boot::kAcpi + 0x40;
    constexpr std::uint32_t kRsdtAt = boot::kAcpi + 0x100;
    constexpr std::uint32_t kSsdtAt = boot::kAcpi + 0x400;

    Rsdp rsdp = find_rsdp();
    const auto *rsdt = reinterpret_cast<const TableHeader *>(rsdp.rsdt);
    if (rsdt->length > kSsdtAt - kRsdtAt - 8) {
        stop("the firmware's RSDT is too large");
    }

    Tpm2Table tpm2{};
    tpm2.header = *rsdt;
    copy(reinterpret_cast<std::uintptr_t>(tpm2.header.signature), "TPM2", 4);
    tpm2.header.length = sizeof(tpm2);
    tpm2.header.revision = 4;
    tpm2.header.checksum = 0;
    const bool crb = tpm_is_crb();
    tpm2.start_method = crb ? 7 : 6; // TCG ACPI Specification 1.4, table 8
    tpm2.control_area = crb ? kTpmBase + 0x40 : 0;
    tpm2.log_size = static_cast<std::uint32_t>(log.size);
    tpm2.log_address = log.base;
    tpm2.header.checksum = checksum_for(&tpm2, sizeof(tpm2));
    copy(kTpm2At, &tpm2, sizeof(tpm2));
    copy(kSsdtAt, ssdt_start, static_cast<std::size_t>(ssdt_end - ssdt_start));

    copy(kRsdtAt, rsdt, rsdt->length);
    auto *root = reinterpret_cast<TableHeader *>(kRsdtAt);
    const std::uint32_t more[2] = {kTpm2At, kSsdtAt};
    copy(kRsdtAt + root->length, more, sizeof(more));
    root->length += sizeof(more);
    root->checksum = 0;
    root->checksum = checksum_for(root, root->length);

    rsdp.revision = 0;
    rsdp.rsdt = kRsdtAt;
    rsdp.checksum = 0;
    rsdp.checksum = checksum_for(&rsdp, sizeof(rsdp));
    copy(boot::kAcpi, &rsdp, sizeof(rsdp));
    return kSsdtAt - boot::kAcpi + static_cast<std::uint64_t>(ssdt_end - ssdt_start);
}

void add(boot::BootInfo &info, std::uint64_t base, std::uint64_t end, boot::E820Type type)
{
    if (info.e820_count == boot::kMaxE820) {
        stop("the firmware's memory map is too long");
    }
    info.e820[info.e820_count++] = {base, end - base, type, 0};
}

/// The firmware's map with our places in it: ACPI tables at 512 KiB, the log at the end of RAM below 4 GiB.
void make_memory_map(const MultibootInfo &multiboot, boot::BootInfo &info)
{
    add(info, 0x1000, boot::kAcpi, boot::E820Type::kRam);
    add(info, boot::kAcpi, boot::kAcpi + boot::kAcpiSize, boot::E820Type::kAcpi);
    for (std::uint32_t at = 0; at < multiboot.map_length;) {
        MapEntry entry;
        __builtin_memcpy(&entry, reinterpret_cast<const void *>(multiboot.map + at), sizeof(entry));
        at += entry.size + 4;
        const std::uint64_t end = entry.base + entry.length;
        if (entry.base < boot::kLowEnd || entry.type < 1 || entry.type > 4) {
            continue;
        }
        if (entry.base == boot::kHighStart && entry.type == 1) {
            info.ram_end = end & ~0xFFFull;
            info.log = {info.ram_end - boot::kLogSize, boot::kLogSize};
            add(info, entry.base, info.log.base, boot::E820Type::kRam);
            add(info, info.log.base, info.ram_end, boot::E820Type::kNvs);
        } else {
            add(info, entry.base, end, static_cast<boot::E820Type>(entry.type));
        }
    }
    if (info.ram_end < boot::kMinRam || info.ram_end > kEcamBase) {
        stop("there must be 256 MiB to 2 GiB of RAM below 4 GiB");
    }
}

} // namespace

void barelaunch_main(std::uint32_t magic, std::uint32_t information)
{
    if (magic != kMultibootMagic) {
        stop("not started by a multiboot loader");
    }
    const auto &multiboot = *reinterpret_cast<const MultibootInfo *>(information);
    const Blob slb = find_module(multiboot, "slb");
    const Blob kernel = find_module(multiboot, "kernel");
    const Blob initrd = find_module(multiboot, "initrd");
    const Blob command_line = find_module(multiboot, "command-line");
    if (slb.size != boot::kSlbSize || kernel.size == 0 || initrd.size == 0 || command_line.size > 2047) {
        stop("give it the modules slb, kernel, initrd and command-line");
    }

    static boot::BootInfo info;
    info.magic = boot::kBootInfoMagic;
    info.size = sizeof(info);
    make_memory_map(multiboot, info);
    info.kernel = {boot::kKernelRaw, kernel.size};
    info.initrd = {(info.log.base - initrd.size) & ~0xFFFull, initrd.size};
    info.command_line = {boot::kCommandLineRaw, command_line.size};
    info.acpi = {boot::kAcpi, make_acpi(info.log)};

    // Modules lie behind this program, far below both places.
    if (reinterpret_cast<std::uintptr_t>(initrd.data) + initrd.size > boot::kKernelRaw) {
        stop("the modules are too large");
    }
    copy(info.initrd.base, initrd.data, initrd.size);
    copy(info.kernel.base, kernel.data, kernel.size);
    copy(boot::kSlb, slb.data, slb.size);
    copy(boot::kCommandLineRaw, command_line.data, command_line.size);
    copy(boot::kBootInfo, &info, sizeof(info));

    std::uint32_t eax = 0x8000'0001;
    std::uint32_t ebx = 0;
    std::uint32_t ecx = 0;
    std::uint32_t edx = 0;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if ((ecx & 1u << 12) == 0) {
        stop("the processor has no SKINIT");
    }
    put("barelaunch: launching\n");
    asm volatile("skinit %%eax" : : "a"(static_cast<std::uint32_t>(boot::kSlb)) : "memory");
    stop("SKINIT came back");
}
