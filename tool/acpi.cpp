// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/acpi.hpp"

#include <cstddef>
#include <cstring>
#include <numeric>
#include <string_view>

#include "banyan/arch/boot_info.hpp"
#include "banyan/arch/domain_table.hpp"
#include "tool/plan.hpp"

namespace banyan::tool {

namespace {

// ---- ACPI 6.4 ------------------------------------------------------------------------------------------------------

#pragma pack(push, 1)

struct Rsdp { // 5.2.5.3
    char signature[8];
    std::uint8_t checksum; // of the first 20 bytes
    char oem_id[6];
    std::uint8_t revision;
    std::uint32_t rsdt;
    std::uint32_t length;
    std::uint64_t xsdt;
    std::uint8_t extended_checksum;
    std::uint8_t reserved[3];
};
static_assert(sizeof(Rsdp) == 36);

struct TableHeader { // 5.2.6
    char signature[4];
    std::uint32_t length;
    std::uint8_t revision;
    std::uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    std::uint32_t oem_revision;
    char creator_id[4];
    std::uint32_t creator_revision;
};
static_assert(sizeof(TableHeader) == 36);

struct GenericAddress { // 5.2.3.2
    std::uint8_t space;
    std::uint8_t bit_width;
    std::uint8_t bit_offset;
    std::uint8_t access_size;
    std::uint64_t address;
};
static_assert(sizeof(GenericAddress) == 12);

struct Fadt { // 5.2.9
    TableHeader header;
    std::uint32_t firmware_ctrl;
    std::uint32_t dsdt;
    std::uint8_t reserved_44;
    std::uint8_t preferred_pm_profile;
    std::uint8_t fixed_hardware_46[63]; // all zero when hardware-reduced
    std::uint16_t boot_architecture;
    std::uint8_t reserved_111;
    std::uint32_t flags;
    GenericAddress reset_register;
    std::uint8_t reset_value;
    std::uint16_t arm_boot_architecture;
    std::uint8_t minor_version;
    std::uint64_t x_firmware_ctrl;
    std::uint64_t x_dsdt;
    std::uint8_t fixed_hardware_148[96];
    GenericAddress sleep_control;
    GenericAddress sleep_status;
    std::uint64_t hypervisor_vendor;
};
static_assert(offsetof(Fadt, boot_architecture) == 109);
static_assert(offsetof(Fadt, flags) == 112);
static_assert(offsetof(Fadt, x_dsdt) == 140);
static_assert(offsetof(Fadt, sleep_control) == 244);
static_assert(sizeof(Fadt) == 276);

struct Madt { // 5.2.12, with one processor
    TableHeader header;
    std::uint32_t lapic_address;
    std::uint32_t flags;
    std::uint8_t type; // 5.2.12.2: processor local APIC
    std::uint8_t length;
    std::uint8_t processor_uid;
    std::uint8_t apic_id;
    std::uint32_t lapic_flags;
};
static_assert(sizeof(Madt) == 52);

struct Mcfg { // PCI Firmware 3.2, 4.1.2, with one bus
    TableHeader header;
    std::uint64_t reserved;
    std::uint64_t base; // of bus 0
    std::uint16_t segment;
    std::uint8_t first_bus;
    std::uint8_t last_bus;
    std::uint32_t reserved_entry;
};
static_assert(sizeof(Mcfg) == 60);

struct Tpm2 { // TCG ACPI 1.2, table 7
    TableHeader header;
    std::uint16_t platform_class;
    std::uint16_t reserved;
    std::uint64_t control_area;
    std::uint32_t start_method;
    std::uint8_t start_method_parameters[12];
    std::uint32_t log_length;
    std::uint64_t log_address;
};
static_assert(offsetof(Tpm2, log_length) == 64);
static_assert(sizeof(Tpm2) == 76);

struct Xsdt { // 5.2.8
    TableHeader header;
    std::uint64_t tables[5]; // the last is there with an SSDT alone
};

#pragma pack(pop)

namespace fadt_flag { // table 5.10
constexpr std::uint32_t kPowerButtonNotFixed = 1u << 4;
constexpr std::uint32_t kSleepButtonNotFixed = 1u << 5;
constexpr std::uint32_t kResetRegister = 1u << 10;
constexpr std::uint32_t kPhysicalDestination = 1u << 19; // logical ones would name other VMs' cores as well
constexpr std::uint32_t kHardwareReduced = 1u << 20;
} // namespace fadt_flag

namespace boot_architecture { // table 5.11
constexpr std::uint16_t kNoVga = 1u << 2;
constexpr std::uint16_t kNoCmosClock = 1u << 5;
} // namespace boot_architecture

constexpr std::uint8_t kSystemMemory = 0;
constexpr std::uint8_t kByteAccess = 1;
constexpr std::uint32_t kLapicEnabled = 1;
constexpr std::uint32_t kStartMethodTis = 6; // TCG ACPI 1.2, table 8
constexpr std::uint32_t kStartMethodCrb = 7;
constexpr std::uint64_t kCrbControlArea = dt::kVtpmBase + 0x40; // TPM_CRB_CTRL_REQ of locality 0: PTP 1.05, table 35

// ---- where they lie, from boot::kAcpi on -----------------------------------------------------------------------------

constexpr std::size_t kXsdtAt = 0x100;
constexpr std::size_t kFadtAt = 0x200;
constexpr std::size_t kMadtAt = 0x400;
constexpr std::size_t kMcfgAt = 0x600;
constexpr std::size_t kTpm2At = 0x700;
constexpr std::size_t kDsdtAt = 0x1000;

template <std::size_t N>
void put_text(char (&field)[N], std::string_view text)
{
    std::memset(field, ' ', N);
    std::memcpy(field, text.data(), std::min(N, text.size()));
}

std::uint8_t checksum(std::span<const std::uint8_t> bytes)
{
    return static_cast<std::uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0u));
}

template <typename Table>
Table table_of(std::string_view signature, std::uint8_t revision)
{
    Table table{};
    put_text(table.header.signature, signature);
    table.header.length = sizeof(Table);
    table.header.revision = revision;
    put_text(table.header.oem_id, "BANYAN");
    put_text(table.header.oem_table_id, "BANYANVM");
    table.header.oem_revision = 1;
    put_text(table.header.creator_id, "BNYN");
    table.header.creator_revision = 1;
    return table;
}

GenericAddress own_register(std::uint32_t offset)
{
    return {kSystemMemory, 8, 0, kByteAccess, dt::kOwnPageBase + offset};
}

/// Places tables, and sums them up when they are in place.
class Area {
public:
    explicit Area(std::size_t size) : bytes(size) {}

    template <typename Table>
    void put(std::size_t at, const Table &table, std::size_t size = sizeof(Table))
    {
        std::memcpy(&bytes[at], &table, size);
        sum(at, size, at + offsetof(TableHeader, checksum));
    }

    void sum(std::size_t at, std::size_t size, std::size_t checksum_at)
    {
        bytes[checksum_at] = 0;
        bytes[checksum_at] = checksum({&bytes[at], size});
    }

    std::vector<std::uint8_t> bytes;
};

} // namespace

std::vector<std::uint8_t> make_acpi(const AcpiInput &input)
{
    const std::span<const std::uint8_t> dsdt = dsdt_of(input.domain);
    const auto ssdt = input.tpms > 1 ? ssdt_of(input.tpms - 1) : std::span<const std::uint8_t>{};
    const std::size_t ssdt_at = (kDsdtAt + dsdt.size() + 15) / 16 * 16;
    Area area(ssdt.empty() ? kDsdtAt + dsdt.size() : ssdt_at + ssdt.size());
    std::memcpy(&area.bytes[kDsdtAt], dsdt.data(), dsdt.size());
    if (!ssdt.empty()) {
        std::memcpy(&area.bytes[ssdt_at], ssdt.data(), ssdt.size());
    }

    auto xsdt = table_of<Xsdt>("XSDT", 1);
    const std::size_t places[] = {kFadtAt, kMadtAt, kMcfgAt, kTpm2At, ssdt_at};
    const std::size_t count = std::size(places) - (ssdt.empty() ? 1 : 0);
    for (std::size_t i = 0; i < count; ++i) {
        xsdt.tables[i] = boot::kAcpi + places[i];
    }
    xsdt.header.length = static_cast<std::uint32_t>(offsetof(Xsdt, tables) + count * sizeof(xsdt.tables[0]));
    area.put(kXsdtAt, xsdt, xsdt.header.length);

    auto fadt = table_of<Fadt>("FACP", 6);
    fadt.minor_version = 1;
    fadt.dsdt = static_cast<std::uint32_t>(boot::kAcpi + kDsdtAt);
    fadt.x_dsdt = boot::kAcpi + kDsdtAt;
    fadt.boot_architecture = boot_architecture::kNoVga | boot_architecture::kNoCmosClock;
    fadt.flags = fadt_flag::kHardwareReduced | fadt_flag::kPhysicalDestination | fadt_flag::kResetRegister |
                 fadt_flag::kPowerButtonNotFixed | fadt_flag::kSleepButtonNotFixed;
    fadt.reset_register = own_register(dt::own::kReset);
    fadt.reset_value = dt::own::kResetValue;
    fadt.sleep_control = own_register(dt::own::kSleepControl);
    fadt.sleep_status = own_register(dt::own::kSleepStatus);
    area.put(kFadtAt, fadt);

    auto madt = table_of<Madt>("APIC", 5);
    madt.lapic_address = static_cast<std::uint32_t>(dt::kLapicBase);
    madt.type = 0;
    madt.length = 8;
    madt.processor_uid = static_cast<std::uint8_t>(input.core);
    madt.apic_id = static_cast<std::uint8_t>(input.core);
    madt.lapic_flags = kLapicEnabled;
    area.put(kMadtAt, madt);

    auto mcfg = table_of<Mcfg>("MCFG", 1);
    mcfg.base = layout::kEcam;
    mcfg.first_bus = mcfg.last_bus = static_cast<std::uint8_t>(layout::bus_of(input.domain));
    area.put(kMcfgAt, mcfg);

    auto tpm2 = table_of<Tpm2>("TPM2", 4);
    tpm2.start_method = input.crb ? kStartMethodCrb : kStartMethodTis;
    tpm2.control_area = input.crb ? kCrbControlArea : 0;
    tpm2.log_length = input.log_size;
    tpm2.log_address = input.log_base;
    area.put(kTpm2At, tpm2);

    Rsdp rsdp{};
    put_text(rsdp.signature, "RSD PTR ");
    put_text(rsdp.oem_id, "BANYAN");
    rsdp.revision = 2;
    rsdp.length = sizeof(Rsdp);
    rsdp.xsdt = boot::kAcpi + kXsdtAt;
    std::memcpy(area.bytes.data(), &rsdp, sizeof(rsdp));
    area.sum(0, 20, offsetof(Rsdp, checksum));
    area.sum(0, sizeof(Rsdp), offsetof(Rsdp, extended_checksum));
    return std::move(area.bytes);
}

} // namespace banyan::tool
