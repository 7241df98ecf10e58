// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/plan.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include <fmt/format.h>
#include <openssl/sha.h>

#include "tool/acpi.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = dt::kPageSize;
constexpr std::uint64_t kAcpiLow = boot::kAcpi;
constexpr std::uint64_t kSpareLow = boot::kAcpi + boot::kAcpiSize; // up to kLowEnd; nothing of ours is in it

constexpr std::uint64_t page_up(std::uint64_t value)
{
    return (value + kPage - 1) / kPage * kPage;
}

Outcome<std::uint64_t> size_of(const fs::path &file)
{
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (error) {
        return failed(Exit::kEnvironment, fmt::format("cannot read {}: {}", file.string(), error.message()));
    }
    return size;
}

/// Physical address of each VM's RAM. VMs with a base keep it; the others fill the gaps in the order of the file.
std::vector<std::uint64_t> place_slices(const Machine &machine)
{
    struct Taken {
        std::uint64_t base;
        std::uint64_t end;
    };
    std::vector<Taken> taken;
    std::vector<std::uint64_t> slices(machine.vms.size());
    for (std::size_t i = 0; i < machine.vms.size(); ++i) {
        if (const MachineVm &vm = machine.vms[i]; vm.base) {
            slices[i] = *vm.base;
            taken.push_back({*vm.base, *vm.base + vm.memory});
        }
    }
    for (std::size_t i = 0; i < machine.vms.size(); ++i) {
        const MachineVm &vm = machine.vms[i];
        if (vm.base) {
            continue;
        }
        std::sort(taken.begin(), taken.end(), [](const Taken &a, const Taken &b) { return a.base < b.base; });
        std::uint64_t at = layout::kSliceFirst;
        for (const Taken &other : taken) {
            if (at + vm.memory <= other.base) {
                break;
            }
            at = std::max(at, (other.end + layout::kSliceAlignment - 1) / layout::kSliceAlignment *
                                  layout::kSliceAlignment);
        }
        slices[i] = at;
        taken.push_back({at, at + vm.memory});
    }
    return slices;
}

dt::Descriptor make_descriptor(const VmPlan &plan)
{
    dt::Descriptor d{};
    d.magic = dt::kDescriptorMagic;
    d.version = dt::kDescriptorVersion;
    d.size = sizeof(d);
    plan.vm.name.copy(d.name, sizeof(d.name) - 1);
    d.core_mask = std::uint64_t{1} << plan.core;
    d.boot_core = plan.core;
    d.vtpm_instance = plan.instance;
    for (unsigned window = 1; window < plan.vm.tpms.size(); ++window) {
        d.further_vtpms[window - 1] = layout::instance_of(plan.domain, window);
    }
    d.msr_profile = 1;
    d.port_profile = 1;
    d.range_count = 2;
    d.ranges[0] = {0, plan.slice, boot::kLowEnd};
    d.ranges[1] = {boot::kHighStart, plan.slice + boot::kHighStart, plan.vm.memory - boot::kHighStart};
    d.window_count = 2;
    d.windows[0] = {layout::ecam_of(plan.domain), layout::kEcamPerBus};
    d.windows[1] = {layout::window_of(plan.domain), layout::kPciWindowSize};
    d.root_port_count = 1;
    d.root_ports[0].devfn = static_cast<std::uint8_t>((layout::kFirstRootPortSlot + plan.domain) << 3);
    d.root_ports[0].secondary = static_cast<std::uint8_t>(layout::bus_of(plan.domain));
    d.entry.eip = static_cast<std::uint32_t>(boot::kStage0);
    return d;
}

/// The kernel lies at boot::kKernelRaw, the initrd at the top of RAM below the log.
Outcome<boot::BootInfo> make_boot_info(const VmPlan &plan)
{
    const auto kernel = size_of(plan.vm.kernel);
    const auto initrd = size_of(plan.vm.initrd);
    for (const auto *size : {&kernel, &initrd}) {
        if (!*size) {
            return tl::unexpected<Failure>(size->error());
        }
    }
    const std::uint64_t log = plan.vm.memory - boot::kLogSize;
    const std::uint64_t kernel_end = page_up(boot::kKernelRaw + *kernel);
    if (kernel_end > log || page_up(*initrd) > log - kernel_end) {
        return failed(Exit::kUsage,
                      fmt::format("{}: VM \"{}\" has {}M of memory, too little for its kernel ({} bytes, from {}M on) "
                                  "and its initrd ({} bytes); give it more memory",
                                  plan.machine_file, plan.vm.name, plan.vm.memory >> 20, *kernel,
                                  boot::kKernelRaw >> 20, *initrd));
    }
    boot::BootInfo info{};
    info.magic = boot::kBootInfoMagic;
    info.size = sizeof(info);
    info.kernel = {boot::kKernelRaw, *kernel};
    info.initrd = {log - page_up(*initrd), *initrd};
    info.command_line = {boot::kCommandLineRaw, plan.vm.command_line.size()};
    info.acpi = {boot::kAcpi, plan.acpi.size()};
    info.log = {log, boot::kLogSize};
    info.ram_end = plan.vm.memory;

    const auto add = [&info](std::uint64_t base, std::uint64_t end, boot::E820Type type) {
        info.e820[info.e820_count++] = {base, end - base, type, 0};
    };
    // Page 0 is mapped, for Linux reads the BIOS data area, but not offered as memory.
    add(kPage, kAcpiLow, boot::E820Type::kRam);
    add(kAcpiLow, kSpareLow, boot::E820Type::kAcpi);
    add(kSpareLow, boot::kLowEnd, boot::E820Type::kNvs);
    add(boot::kHighStart, log, boot::E820Type::kRam);
    add(log, plan.vm.memory, boot::E820Type::kNvs);
    const std::uint64_t ecam = layout::ecam_of(plan.domain);
    add(ecam, ecam + layout::kEcamPerBus, boot::E820Type::kReserved);
    return info;
}

/// Boot modules, each file once.
class ModuleList {
public:
    std::string add(const fs::path &file)
    {
        const auto [found, fresh] = by_file_.try_emplace(file, fmt::format("file-{}", by_file_.size()));
        if (fresh) {
            modules_.push_back({found->second, file, {}});
        }
        return found->second;
    }

    std::string add(std::string name, Bytes bytes)
    {
        modules_.push_back({name, {}, std::move(bytes)});
        return name;
    }

    std::vector<Module> take() { return std::move(modules_); }

private:
    std::map<fs::path, std::string> by_file_;
    std::vector<Module> modules_;
};

void place(VmPlan &plan, const std::string &module, std::uint64_t gpa)
{
    mgmt::Placement placement{};
    module.copy(placement.module, sizeof(placement.module) - 1);
    placement.gpa = gpa;
    plan.placements.push_back(placement);
}

template <typename T>
Bytes raw_bytes(const T &value)
{
    Bytes bytes(sizeof(value));
    std::memcpy(bytes.data(), &value, sizeof(value));
    return bytes;
}

/// What is measured, in the order of boot_info.hpp.
attest::Expected<std::vector<attest::MeasuredItem>> measured_items(const VmPlan &plan)
{
    std::vector<attest::MeasuredItem> items;
    auto slb = attest::read_slb_measured(plan.vm.loader);
    if (!slb) {
        return tl::unexpected<std::string>(std::move(slb.error()));
    }
    items.push_back(
        attest::item_of_bytes(boot::kPcrCode, boot::kEventSkinit, boot::kTextSkinit, plan.vm.loader.string(), *slb));
    const std::pair<const char *, const fs::path &> files[] = {{boot::kTextKernel, plan.vm.kernel},
                                                               {boot::kTextInitrd, plan.vm.initrd}};
    for (const auto &[text, file] : files) {
        auto item = attest::item_of_file(boot::kPcrCode, boot::kEventIpl, text, file);
        if (!item) {
            return tl::unexpected<std::string>(std::move(item.error()));
        }
        items.push_back(std::move(*item));
    }
    const Bytes line(plan.vm.command_line.begin(), plan.vm.command_line.end());
    items.push_back(attest::item_of_bytes(boot::kPcrCode, boot::kEventIpl, boot::kTextCommandLine,
                                          fmt::format("command_line of \"{}\"", plan.vm.name), line));
    items.push_back(attest::item_of_bytes(boot::kPcrPlatform, boot::kEventIpl, boot::kTextBootInfo,
                                          fmt::format("memory layout of \"{}\"", plan.vm.name),
                                          bytes_of(plan.boot_info)));
    items.push_back(attest::item_of_bytes(boot::kPcrPlatform, boot::kEventIpl, boot::kTextAcpi,
                                          fmt::format("ACPI tables of \"{}\"", plan.vm.name), plan.acpi));
    return items;
}

attest::Sha384 sha384(const Bytes &bytes)
{
    attest::Sha384 digest{};
    SHA384(bytes.data(), bytes.size(), digest.data());
    return digest;
}

} // namespace

Bytes bytes_of(const dt::Descriptor &descriptor)
{
    return raw_bytes(descriptor);
}
Bytes bytes_of(const boot::BootInfo &info)
{
    return raw_bytes(info);
}

Outcome<Plan> make_plan(const Machine &machine)
{
    Plan plan;
    plan.machine = machine;
    ModuleList modules;
    const std::vector<std::uint64_t> slices = place_slices(machine);
    std::uint64_t end = layout::kSliceFirst;
    for (std::size_t i = 0; i < machine.vms.size(); ++i) {
        VmPlan vm;
        vm.vm = machine.vms[i];
        vm.machine_file = machine.file.string();
        vm.domain = static_cast<unsigned>(i + 1);
        vm.core = vm.domain;
        vm.instance = layout::instance_of(vm.domain, 0);
        for (unsigned window = 0; window < vm.vm.tpms.size(); ++window) {
            plan.instances = std::max(plan.instances, layout::instance_of(vm.domain, window) + 1);
        }
        vm.slice = slices[i];
        end = std::max(end, vm.slice + vm.vm.memory);
        vm.descriptor = make_descriptor(vm);
        vm.acpi =
            make_acpi({vm.domain, vm.core, vm.vm.memory - boot::kLogSize, static_cast<std::uint32_t>(boot::kLogSize),
                       static_cast<unsigned>(vm.vm.tpms.size()), vm.vm.tpms.front().crb});
        auto info = make_boot_info(vm);
        if (!info) {
            return tl::unexpected<Failure>(std::move(info.error()));
        }
        vm.boot_info = *info;
        place(vm, modules.add(vm.vm.stage0), boot::kStage0);
        place(vm, modules.add(vm.vm.loader), boot::kSlb);
        place(vm, modules.add(fmt::format("boot-info-{}", vm.domain), bytes_of(vm.boot_info)), boot::kBootInfo);
        if (!vm.vm.command_line.empty()) {
            const Bytes line(vm.vm.command_line.begin(), vm.vm.command_line.end());
            place(vm, modules.add(fmt::format("command-line-{}", vm.domain), line), boot::kCommandLineRaw);
        }
        place(vm, modules.add(fmt::format("acpi-{}", vm.domain), vm.acpi), boot::kAcpi);
        place(vm, modules.add(vm.vm.kernel), vm.boot_info.kernel.base);
        place(vm, modules.add(vm.vm.initrd), vm.boot_info.initrd.base);
        plan.vms.push_back(std::move(vm));
    }
    plan.memory = layout::kHostRam + end - layout::kSliceFirst;
    plan.modules = modules.take();
    return plan;
}

tl::expected<std::vector<attest::VmReference>, std::string> references(const Machine &machine)
{
    auto plan = make_plan(machine);
    if (!plan) {
        return tl::unexpected<std::string>(std::move(plan.error().text));
    }
    auto slb = attest::read_slb_measured(machine.hypervisor_slb);
    if (!slb) {
        return tl::unexpected<std::string>(std::move(slb.error()));
    }
    const attest::Sha384 hypervisor = sha384(*slb);
    std::vector<attest::VmReference> all;
    for (const VmPlan &vm : plan->vms) {
        auto items = measured_items(vm);
        if (!items) {
            return tl::unexpected<std::string>(std::move(items.error()));
        }
        attest::VmReference reference;
        reference.name = vm.vm.name;
        reference.domain = vm.domain;
        reference.instance = vm.instance;
        reference.kernel = vm.vm.kernel_label;
        reference.descriptor = sha384(bytes_of(vm.descriptor));
        reference.hypervisor = hypervisor;
        reference.items = std::move(*items);
        reference.accept_insecure = machine.accept_insecure;
        all.push_back(std::move(reference));
    }
    return all;
}

} // namespace banyan::tool
