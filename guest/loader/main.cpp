// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstddef>
#include <cstdint>

#include "banyan/arch/boot_info.hpp"
#include "banyan/arch/domain_table.hpp"
#include "guest/common/own_page.hpp"
#include "guest/loader/acpi_mcfg.hpp"
#include "guest/loader/boot_info_check.hpp"
#include "guest/loader/console.hpp"
#include "guest/loader/event_log.hpp"
#include "guest/loader/linux_boot.hpp"
#include "guest/loader/pci_reset.hpp"
#include "guest/loader/tpm.hpp"
#include "guest/loader/tpm_interface.hpp"

// The secure loader: measures what the domain will run into PCR 17 and 18, then runs it. What is measured, in which
// order, and why nothing can change in between: docs/spec/measurements.md.

extern "C" {
extern const std::uint8_t slb_start[];
extern const std::uint8_t slb_measured_end[];
extern const std::uint8_t loader_vectors[];
[[noreturn]] void loader_main();
[[noreturn]] void loader_fault(std::uint64_t vector, std::uint64_t first, std::uint64_t second);
[[noreturn]] void loader_shutdown();
[[noreturn]] void loader_enter_linux(std::uint64_t entry, std::uint64_t boot_params, std::uint64_t page_tables);
}

namespace banyan::loader {
namespace {

constexpr std::uint32_t kMsrVmCr = 0xC001'0114;  // APM 2, 15.30.1
constexpr std::uint64_t kVmCrLaunchBits = 0b111; // DPD, R_INIT, DIS_A20M
constexpr std::uint32_t kPolls = 50'000'000;     // tens of seconds: a TPM that takes longer is broken
constexpr std::uint32_t kLocality = 2;           // the dynamic OS's: may extend 17 and 18
constexpr std::uint64_t kLargePage = 0x83;       // present, writable, 2 MiB

boot::BootInfo info; // the private copy: inside the launch window, out of reach for any device

/// The locality's registers.
struct TpmPage {
    static constexpr std::uintptr_t kBase = dt::kVtpmBase + kLocality * 0x1000;

    std::uint8_t read8(std::uint32_t offset) { return *reinterpret_cast<volatile std::uint8_t *>(kBase + offset); }
    std::uint32_t read32(std::uint32_t offset) { return *reinterpret_cast<volatile std::uint32_t *>(kBase + offset); }
    void write8(std::uint32_t offset, std::uint8_t value)
    {
        *reinterpret_cast<volatile std::uint8_t *>(kBase + offset) = value;
    }
    void write32(std::uint32_t offset, std::uint32_t value)
    {
        *reinterpret_cast<volatile std::uint32_t *>(kBase + offset) = value;
    }
    static constexpr std::uint64_t address() { return kBase; }
    void pause() { asm volatile("pause"); }
};

[[noreturn]] void refuse(const char *what, const char *why)
{
    put("loader: ");
    put(what);
    put(": ");
    put(why);
    put("\n");
    loader_shutdown();
}

[[noreturn]] void refuse(const TpmFault &fault)
{
    if (fault.transport != TransportFault::kNone) {
        refuse("TPM", describe(fault.transport));
    }
    put("loader: TPM: ");
    if (fault.bank != 0) {
        put("an active PCR bank of an unknown hash, ");
        put_hex(fault.bank);
    } else if (fault.malformed) {
        put("malformed answer");
    } else {
        put("response code ");
        put_hex(fault.code);
    }
    put("\n");
    loader_shutdown();
}

struct [[gnu::packed]] Gate {
    std::uint16_t offset_low;
    std::uint16_t selector;
    std::uint16_t attributes; // 0x8E00: present, interrupt gate
    std::uint16_t offset_middle;
    std::uint32_t offset_high;
    std::uint32_t reserved;
};
Gate idt[32];

void load_idt()
{
    for (std::size_t i = 0; i < 32; ++i) {
        const auto offset = reinterpret_cast<std::uintptr_t>(loader_vectors + 8 * i);
        idt[i] = {static_cast<std::uint16_t>(offset), 0x18, 0x8E00, static_cast<std::uint16_t>(offset >> 16), 0, 0};
    }
    struct [[gnu::packed]] {
        std::uint16_t limit;
        std::uint64_t base;
    } const pointer{sizeof(idt) - 1, reinterpret_cast<std::uintptr_t>(idt)};
    asm volatile("lidt %0" : : "m"(pointer));
}

void clear_launch_bits()
{
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(kMsrVmCr));
    low &= ~static_cast<std::uint32_t>(kVmCrLaunchBits);
    asm volatile("wrmsr" : : "c"(kMsrVmCr), "a"(low), "d"(high));
}

Bytes bytes_at(const boot::Extent &extent)
{
    return {reinterpret_cast<const std::uint8_t *>(extent.base), static_cast<std::size_t>(extent.size)};
}

struct Ecam {
    std::uint64_t base;

    template <typename T>
    volatile T &at(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        return *reinterpret_cast<volatile T *>(base + (std::uint64_t{bus} << 20) + (std::uint64_t{devfn} << 12) +
                                               offset);
    }
    std::uint8_t read8(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        return at<std::uint8_t>(bus, devfn, offset);
    }
    std::uint16_t read16(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        return at<std::uint16_t>(bus, devfn, offset);
    }
    std::uint32_t read32(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        return at<std::uint32_t>(bus, devfn, offset);
    }
    void write16(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset, std::uint16_t value)
    {
        at<std::uint16_t>(bus, devfn, offset) = value;
    }
    void pause() { asm volatile("pause"); }
};

/// Where the domain's functions are, as the ACPI tables have it. They can still change under our eyes: whoever calls this
/// before measuring asks again afterwards.
ConfigSpace config_space()
{
    ConfigSpace space;
    if (!find_config_space(bytes_at(info.acpi), info.acpi.base, space)) {
        refuse("ACPI tables", "malformed, or MCFG is not a domain's");
    }
    return space;
}

void reset_functions(const ConfigSpace &space)
{
    if (!space.present) {
        return;
    }
    Ecam ecam{space.base};
    PciReset reset(ecam, kPolls);
    unsigned count = 0;
    for (unsigned bus = space.first_bus; bus <= space.last_bus; ++bus) {
        if (const PciFault fault = reset.reset_bus(static_cast<std::uint8_t>(bus), count); fault != PciFault::kNone) {
            refuse("PCI", describe(fault));
        }
    }
    put("loader: PCI functions reset: ");
    put_hex(count);
    put("\n");
}

using Vtpm = TpmInterface<TpmPage>;

class Measurer {
public:
    Measurer(Tpm<Vtpm> &tpm, EventLog &log) : tpm_(tpm), log_(log) {}

    void measure(std::uint32_t pcr, const char *text, Bytes data)
    {
        const Digests digests = digests_of(data);
        if (const TpmFault fault = tpm_.extend(pcr, digests)) {
            refuse(fault);
        }
        record(pcr, boot::kEventIpl, text, digests);
    }

    void record(std::uint32_t pcr, std::uint32_t type, const char *text, const Digests &digests)
    {
        if (!log_.append(pcr, type, digests, text)) {
            refuse("event log", "full");
        }
        put("loader: measured ");
        put(text);
        put("\n");
    }

private:
    Tpm<Vtpm> &tpm_;
    EventLog &log_;
};

void measure_all()
{
    TpmPage page;
    Vtpm vtpm(page, kPolls);
    if (const TransportFault fault = vtpm.request(); fault != TransportFault::kNone) {
        refuse("TPM", describe(fault));
    }
    Tpm tpm(vtpm);
    constexpr std::uint32_t kPcrs[] = {boot::kPcrCode, boot::kPcrPlatform};
    if (const TpmFault fault = tpm.prepare(kPcrs)) {
        refuse(fault);
    }
    EventLog log({reinterpret_cast<std::uint8_t *>(info.log.base), static_cast<std::size_t>(info.log.size)});
    Measurer measurer(tpm, log);

    // SKINIT has extended PCR 17 with these very bytes; here they are only told to the log's readers.
    measurer.record(boot::kPcrCode, boot::kEventSkinit, boot::kTextSkinit,
                    digests_of(Bytes(slb_start, slb_measured_end)));
    measurer.measure(boot::kPcrCode, boot::kTextKernel, bytes_at(info.kernel));
    measurer.measure(boot::kPcrCode, boot::kTextInitrd, bytes_at(info.initrd));
    measurer.measure(boot::kPcrCode, boot::kTextCommandLine, bytes_at(info.command_line));
    measurer.measure(boot::kPcrPlatform, boot::kTextBootInfo,
                     Bytes(reinterpret_cast<const std::uint8_t *>(&info), sizeof(info)));
    measurer.measure(boot::kPcrPlatform, boot::kTextAcpi, bytes_at(info.acpi));
    vtpm.relinquish();
}

void place_command_line()
{
    auto *to = reinterpret_cast<std::uint8_t *>(boot::kCommandLine);
    for (const std::uint8_t byte : bytes_at(info.command_line)) {
        if (byte == 0) {
            refuse("command line", "has a NUL, so the kernel would see less than was measured");
        }
        *to++ = byte;
    }
    *to = 0;
}

/// Identity map of the first 4 GiB, where Linux expects to find the loader's.
void make_page_tables()
{
    auto *table = reinterpret_cast<std::uint64_t *>(boot::kPageTables);
    constexpr std::size_t kEntries = 512;
    __builtin_memset(table, 0, 2 * kEntries * sizeof(std::uint64_t));
    table[0] = (boot::kPageTables + 0x1000) | 3;
    for (std::size_t i = 0; i < 4; ++i) {
        table[kEntries + i] = (boot::kPageTables + 0x2000 + i * 0x1000) | 3;
    }
    for (std::size_t i = 0; i < 4 * kEntries; ++i) {
        table[2 * kEntries + i] = i << 21 | kLargePage;
    }
}

void lift_launch_window()
{
    if (guest::own_page_present()) {
        guest::own_write<std::uint32_t>(dt::own::kSlDev, 0);
    }
}

} // namespace
} // namespace banyan::loader

void loader_fault(std::uint64_t vector, std::uint64_t first, std::uint64_t second)
{
    using namespace banyan::loader;
    put("loader: exception ");
    put_hex(vector);
    put(", stack ");
    put_hex(first);
    put(" ");
    put_hex(second);
    put("\n");
    loader_shutdown();
}

void loader_main()
{
    using namespace banyan;
    using namespace banyan::loader;

    load_idt();
    clear_launch_bits();

    __builtin_memcpy(&info, reinterpret_cast<const void *>(boot::kBootInfo), sizeof(info));
    if (const BootInfoFault fault = check_boot_info(info); fault != BootInfoFault::kNone) {
        refuse("boot info", describe(fault));
    }

    // On the bare machine the firmware's bridges and devices are not the loader's to reset.
    const bool own_bus = guest::in_domain();
    const ConfigSpace space = own_bus ? config_space() : ConfigSpace{};
    reset_functions(space);
    measure_all();
    if (own_bus && config_space() != space) {
        refuse("ACPI tables", "changed before they were measured");
    }

    const Bytes kernel = bytes_at(info.kernel);
    KernelLayout layout{};
    KernelFault fault = parse_kernel(kernel, layout);
    if (fault == KernelFault::kNone) {
        fault = check_placement(info, layout);
    }
    if (fault != KernelFault::kNone) {
        refuse("kernel", describe(fault));
    }

    __builtin_memcpy(reinterpret_cast<void *>(boot::kKernelRun), kernel.data() + layout.code_offset, layout.code_size);
    place_command_line();
    make_boot_params(
        std::span<std::uint8_t, zero_page::kSize>(reinterpret_cast<std::uint8_t *>(boot::kZeroPage), zero_page::kSize),
        kernel, layout, info);
    make_page_tables();
    lift_launch_window();
    put("loader: entering Linux\n");
    loader_enter_linux(boot::kKernelRun + zero_page::kEntry64, boot::kZeroPage, boot::kPageTables);
}
