// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/machine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <unistd.h>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "banyan/arch/boot_info.hpp"
#include "banyan/arch/domain_table.hpp"
#include "tool/plan.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSchema = 1;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint32_t kNobody = 0xFFFF'FFFF; // TPM_DID_VID where there is no TPM
constexpr std::size_t kMaxCommandLine = 2047;  // Linux on x86: COMMAND_LINE_SIZE with its NUL
constexpr std::string_view kDebian = "debian:";
constexpr std::string_view kOurs = "banyan:";
constexpr std::string_view kDefaultCommandLine =
    "console=hvc0 tsc_early_khz=1000000 reboot=a panic=-1 no_ipi_broadcast=1";

/// Thrown by the reader's helpers and caught in parse_machine; never leaves this file.
struct Bad {
    Failure failure;
};

std::string_view type_name(const toml::node &node)
{
    switch (node.type()) {
    case toml::node_type::none:
        return "nothing";
    case toml::node_type::table:
        return "a table";
    case toml::node_type::array:
        return "an array";
    case toml::node_type::string:
        return "a string";
    case toml::node_type::integer:
        return "an integer";
    case toml::node_type::floating_point:
        return "a floating-point number";
    case toml::node_type::boolean:
        return "a boolean";
    case toml::node_type::date:
        return "a date";
    case toml::node_type::time:
        return "a time";
    case toml::node_type::date_time:
        return "a date and time";
    }
    return "something else";
}

bool valid_name(std::string_view name)
{
    const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
    return !name.empty() && name.size() < sizeof(dt::Descriptor::name) && name.front() != '-' &&
           std::all_of(name.begin(), name.end(), allowed);
}

/// "384M", "2G".
std::optional<std::uint64_t> parse_size(std::string_view text)
{
    if (text.size() < 2 || text.size() > 8) {
        return std::nullopt;
    }
    const char unit = text.back();
    if (unit != 'M' && unit != 'G') {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    for (const char c : text.substr(0, text.size() - 1)) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return value * (unit == 'G' ? 1024 * kMiB : kMiB);
}

class Reader {
public:
    Reader(fs::path file, const Places &places) : file_(std::move(file)), places_(places) {}

    Machine read(const toml::table &root)
    {
        expect_keys(root, "the file", {"schema", "machine", "vm"});
        check_schema(root);
        Machine machine;
        machine.file = file_;
        machine.hypervisor = places_.share / "hypervisor.elf";
        machine.hypervisor_slb = places_.share / "hypervisor.slb";
        const toml::table empty;
        const toml::table *section = &empty;
        if (const toml::node *node = root.get("machine")) {
            section = node->as_table();
            if (section == nullptr) {
                fail_at(*node, fmt::format("machine must be a table ([machine]), not {}", type_name(*node)));
            }
        }
        read_machine_section(*section, machine);
        read_vms(root, machine);
        check_cores(*section, machine);
        return machine;
    }

private:
    [[noreturn]] static void raise(Exit exit, std::string text) { throw Bad{{exit, std::move(text)}}; }

    [[nodiscard]] std::string at(const toml::source_region &where) const
    {
        return fmt::format("{}:{}:{}", file_.string(), where.begin.line, where.begin.column);
    }

    [[noreturn]] void fail_at(const toml::node &node, std::string_view text) const
    {
        raise(Exit::kUsage, fmt::format("{}: {}", at(node.source()), text));
    }

    void expect_keys(const toml::table &table, std::string_view where,
                     std::initializer_list<std::string_view> known) const
    {
        for (const auto &[key, value] : table) {
            if (std::find(known.begin(), known.end(), key.str()) == known.end()) {
                raise(Exit::kUsage, fmt::format("{}: unknown key \"{}\" in {}; known are {}", at(key.source()),
                                                key.str(), where, fmt::join(known, ", ")));
            }
        }
    }

    [[nodiscard]] std::optional<std::string> string_of(const toml::table &table, std::string_view key) const
    {
        const toml::node *node = table.get(key);
        if (node == nullptr) {
            return std::nullopt;
        }
        const auto *text = node->as_string();
        if (text == nullptr) {
            fail_at(*node, fmt::format("{} must be a string, not {}", key, type_name(*node)));
        }
        if (text->get().find('\0') != std::string::npos) {
            fail_at(*node, fmt::format("{} contains a NUL character", key));
        }
        return text->get();
    }

    [[nodiscard]] std::optional<std::uint64_t> integer_of(const toml::table &table, std::string_view key) const
    {
        const toml::node *node = table.get(key);
        if (node == nullptr) {
            return std::nullopt;
        }
        const auto *number = node->as_integer();
        if (number == nullptr || number->get() < 0) {
            fail_at(*node, fmt::format("{} must be an integer of 0 or more", key));
        }
        return static_cast<std::uint64_t>(number->get());
    }

    void check_schema(const toml::table &root) const
    {
        const auto schema = integer_of(root, "schema");
        if (!schema) {
            raise(Exit::kUsage,
                  fmt::format("{}:1:1: schema is missing; write \"schema = {}\" at the top", file_.string(), kSchema));
        }
        if (*schema != static_cast<std::uint64_t>(kSchema)) {
            fail_at(*root.get("schema"),
                    fmt::format("schema {} is not known; this program reads schema {}", *schema, kSchema));
        }
    }

    [[nodiscard]] fs::path relative_to_file(const fs::path &path) const
    {
        return path.is_absolute() ? path : (fs::absolute(file_).parent_path() / path).lexically_normal();
    }

    /// A file that must be there; `what` says what it is for.
    void expect_readable(const fs::path &path, std::string_view what, const toml::node *node,
                         std::string_view hint) const
    {
        std::string why;
        std::error_code error;
        if (!fs::exists(path, error)) {
            why = error ? error.message() : "there is no such file";
        } else if (!fs::is_regular_file(path, error)) {
            why = "it is not a regular file";
        } else if (::access(path.c_str(), R_OK) != 0) {
            why = std::strerror(errno);
        } else if (fs::file_size(path, error) == 0) {
            why = "it is empty";
        } else {
            return;
        }
        const std::string where = node != nullptr ? at(node->source()) : file_.string();
        raise(Exit::kEnvironment,
              fmt::format("{}: cannot read the {} {}: {}; {}", where, what, path.string(), why, hint));
    }

    /// A key that holds a path, or `ours` for the file that comes with Banyan.
    [[nodiscard]] fs::path file_of(const toml::table &table, std::string_view key, std::string_view what,
                                   std::string_view ours, const fs::path &our_file) const
    {
        const std::string text = string_of(table, key).value_or(std::string(ours));
        const toml::node *node = table.get(key);
        if (text == ours) {
            expect_readable(our_file, what, node, "build it with scripts/demo or cmake --build");
            return our_file;
        }
        if (text.starts_with(kOurs)) {
            fail_at(*node, fmt::format("{} \"{}\" is not known; write \"{}\" or a path", key, text, ours));
        }
        fs::path path = relative_to_file(text);
        expect_readable(path, what, node, fmt::format("correct {} in the machine file", key));
        return path;
    }

    void read_machine_section(const toml::table &section, Machine &machine) const
    {
        expect_keys(section, "[machine]",
                    {"name", "cores", "platform", "hypervisor", "hypervisor_slb", "hash_rate", "launch_arbiter",
                     "accept_insecure"});
        machine.name = string_of(section, "name").value_or(file_.stem().string());
        const auto platform = string_of(section, "platform");
        const fs::path folder = platform ? relative_to_file(*platform) : default_platform();
        machine.platform_private = folder / "private";
        machine.platform_public = folder / "public";
        machine.hash_rate = integer_of(section, "hash_rate");
        machine.launch_arbiter = string_of(section, "launch_arbiter");
        if (machine.launch_arbiter && *machine.launch_arbiter != "parallel" && *machine.launch_arbiter != "serial") {
            fail_at(*section.get("launch_arbiter"), "launch_arbiter must be \"parallel\" or \"serial\"");
        }
        if (const auto text = string_of(section, "hypervisor"); text && *text != "banyan:hypervisor") {
            machine.hypervisor = relative_to_file(*text);
            machine.hypervisor_slb = fs::path(machine.hypervisor).replace_extension(".slb");
        }
        if (const auto text = string_of(section, "hypervisor_slb")) {
            machine.hypervisor_slb = relative_to_file(*text);
        }
        const std::string_view hint = "build it with scripts/demo or cmake --build, or correct the machine file";
        expect_readable(machine.hypervisor, "hypervisor", section.get("hypervisor"), hint);
        expect_readable(machine.hypervisor_slb, "hypervisor's loader block", section.get("hypervisor_slb"), hint);
        if (const toml::node *node = section.get("accept_insecure")) {
            const toml::array *names = node->as_array();
            if (names == nullptr) {
                fail_at(*node, "accept_insecure must be an array of strings");
            }
            for (const toml::node &name : *names) {
                if (!name.is_string()) {
                    fail_at(name, fmt::format("accept_insecure holds strings, not {}", type_name(name)));
                }
                machine.accept_insecure.push_back(name.as_string()->get());
            }
        }
    }

    [[nodiscard]] static fs::path default_platform()
    {
        if (const char *data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/') {
            return fs::path(data) / "banyan/platform";
        }
        const char *home = std::getenv("HOME");
        return fs::path(home != nullptr && *home != '\0' ? home : "/root") / ".local/share/banyan/platform";
    }

    void read_vms(const toml::table &root, Machine &machine) const
    {
        const toml::node *node = root.get("vm");
        const toml::array *vms = node != nullptr ? node->as_array() : nullptr;
        if (node != nullptr && vms == nullptr) {
            fail_at(*node, fmt::format("vm must be an array of tables ([[vm]]), not {}", type_name(*node)));
        }
        if (vms == nullptr || vms->empty()) {
            raise(Exit::kUsage, fmt::format("{}:1:1: there is no VM; add a [[vm]] section", file_.string()));
        }
        if (vms->size() > dt::kMaxDomains) {
            fail_at((*vms)[dt::kMaxDomains],
                    fmt::format("{} VMs are more than the {} that a domain table holds", vms->size(), dt::kMaxDomains));
        }
        for (const toml::node &element : *vms) {
            const toml::table *table = element.as_table();
            if (table == nullptr) {
                fail_at(element, fmt::format("a VM must be a table ([[vm]]), not {}", type_name(element)));
            }
            machine.vms.push_back(read_vm(*table, machine));
        }
    }

    [[nodiscard]] MachineVm read_vm(const toml::table &table, const Machine &machine) const
    {
        expect_keys(table, "[[vm]]",
                    {"name", "memory", "base", "kernel", "initrd", "command_line", "loader", "stage0", "on_reboot",
                     "tpms", "interface", "banks", "did_vid", "further_tpm"});
        MachineVm vm;
        const auto name = string_of(table, "name");
        if (!name) {
            fail_at(table, "the VM has no name; add name = \"…\"");
        }
        const toml::node &name_node = *table.get("name");
        vm.name = *name;
        if (!valid_name(vm.name)) {
            fail_at(name_node, fmt::format("the VM name \"{}\" must be 1 to {} of a-z, 0-9 and -, not beginning with -",
                                           vm.name, sizeof(dt::Descriptor::name) - 1));
        }
        if (vm.name == "owner" || vm.name == "consoles") {
            fail_at(name_node, fmt::format("the VM name \"{}\" is taken: evidence has a folder of that name", vm.name));
        }
        const auto same = [&](const MachineVm &other) { return other.name == vm.name; };
        if (std::any_of(machine.vms.begin(), machine.vms.end(), same)) {
            fail_at(name_node, fmt::format("two VMs are called \"{}\"; give each its own name", vm.name));
        }
        read_memory(table, vm);
        check_base(table, vm, machine);
        read_images(table, vm);
        const std::string on_reboot = string_of(table, "on_reboot").value_or("stop");
        if (on_reboot != "stop" && on_reboot != "restart") {
            fail_at(*table.get("on_reboot"), "on_reboot must be \"stop\" or \"restart\"");
        }
        vm.on_reboot = on_reboot == "restart" ? OnReboot::kRestart : OnReboot::kStop;
        read_tpms(table, vm);
        return vm;
    }

    /// The first TPM is what the VM's own keys say, each further one what its [[vm.further_tpm]] says.
    void read_tpms(const toml::table &table, MachineVm &vm) const
    {
        vm.tpms.front() = read_tpm(table);
        check_first(table, vm.tpms.front());
        if (const toml::node *node = table.get("further_tpm")) {
            const toml::array *further = node->as_array();
            if (further == nullptr) {
                fail_at(*node, fmt::format("further_tpm must be an array of tables ([[vm.further_tpm]]), not {}",
                                           type_name(*node)));
            }
            if (further->size() > dt::kMaxFurtherVtpms) {
                fail_at((*further)[dt::kMaxFurtherVtpms],
                        fmt::format("{} further TPMs are more than the {} that a VM can have", further->size(),
                                    dt::kMaxFurtherVtpms));
            }
            for (const toml::node &element : *further) {
                const toml::table *one = element.as_table();
                if (one == nullptr) {
                    fail_at(element, fmt::format("a further TPM must be a table ([[vm.further_tpm]]), not {}",
                                                 type_name(element)));
                }
                expect_keys(*one, "[[vm.further_tpm]]", {"interface", "banks", "did_vid"});
                vm.tpms.push_back(read_tpm(*one));
                if (vm.tpms.back().crb) {
                    fail_at(
                        *one->get("interface"),
                        "a further TPM is a \"fifo\": the one TPM2 table of ACPI names one CRB's address, the first's");
                }
            }
        }
        if (const auto count = integer_of(table, "tpms")) {
            const toml::node &node = *table.get("tpms");
            if (*count < 1 || *count > dt::kVtpmWindows) {
                fail_at(node, fmt::format("tpms = {} is outside 1 to {}", *count, dt::kVtpmWindows));
            }
            if (*count < vm.tpms.size()) {
                fail_at(node, fmt::format("tpms = {}, but there are {} with those in [[vm.further_tpm]]; raise tpms or "
                                          "leave it out",
                                          *count, vm.tpms.size()));
            }
            vm.tpms.resize(*count);
        }
        if (vm.tpms.front().crb && vm.tpms.size() > 1) {
            fail_at(
                *table.get("interface"),
                "a VM whose TPM is a \"crb\" has it alone: Linux numbers a FIFO before a CRB, so /dev/tpm0 would not "
                "be the launch's; write \"fifo\", or leave out tpms and further_tpm");
        }
    }

    [[nodiscard]] MachineTpm read_tpm(const toml::table &table) const
    {
        MachineTpm tpm;
        const std::string interface = string_of(table, "interface").value_or("fifo");
        if (interface != "fifo" && interface != "crb") {
            fail_at(*table.get("interface"),
                    fmt::format("interface must be \"fifo\" or \"crb\", not \"{}\"", interface));
        }
        tpm.crb = interface == "crb";
        read_banks(table, tpm);
        if (const auto did_vid = integer_of(table, "did_vid")) {
            if (*did_vid == 0 || *did_vid >= kNobody) {
                fail_at(*table.get("did_vid"),
                        fmt::format(
                            "did_vid 0x{:x} must be from 1 to 0xfffffffe: device in bits 31 to 16, vendor in 15 to 0",
                            *did_vid));
            }
            tpm.did_vid = static_cast<std::uint32_t>(*did_vid);
        }
        return tpm;
    }

    void read_banks(const toml::table &table, MachineTpm &tpm) const
    {
        const toml::node *node = table.get("banks");
        if (node == nullptr) {
            return;
        }
        const toml::array *names = node->as_array();
        if (names == nullptr || names->empty()) {
            fail_at(*node, "banks must be an array of \"sha1\", \"sha256\" and \"sha384\", with one at least");
        }
        for (const toml::node &name : *names) {
            const auto *text = name.as_string();
            const auto bank = std::find_if(attest::kBanks.begin(), attest::kBanks.end(), [&](attest::Bank one) {
                return text != nullptr && text->get() == attest::name_of(one);
            });
            if (bank == attest::kBanks.end()) {
                fail_at(name, "banks holds \"sha1\", \"sha256\" and \"sha384\"; the TPM has no others");
            }
            if (std::find(tpm.banks.begin(), tpm.banks.end(), *bank) != tpm.banks.end()) {
                fail_at(name, fmt::format("banks names \"{}\" twice", text->get()));
            }
            tpm.banks.push_back(*bank);
        }
    }

    /// Evidence is a quote of the first TPM.
    void check_first(const toml::table &table, const MachineTpm &tpm) const
    {
        for (const attest::Bank needed : attest::kQuotedBanks) {
            if (!tpm.banks.empty() && std::find(tpm.banks.begin(), tpm.banks.end(), needed) == tpm.banks.end()) {
                fail_at(
                    *table.get("banks"),
                    fmt::format("banks without \"{}\": evidence quotes the banks {} of a VM's first TPM, so this VM "
                                "could not attest; add it",
                                attest::name_of(needed), quoted_banks()));
            }
        }
    }

    [[nodiscard]] static std::string quoted_banks()
    {
        std::string text;
        for (const attest::Bank bank : attest::kQuotedBanks) {
            text += fmt::format("{}\"{}\"", text.empty() ? "" : " and ", attest::name_of(bank));
        }
        return text;
    }

    void read_memory(const toml::table &table, MachineVm &vm) const
    {
        const std::string memory = string_of(table, "memory").value_or("384M");
        const auto size = parse_size(memory);
        if (!size) {
            fail_at(*table.get("memory"), fmt::format("memory \"{}\" is not a size; write a number with M or G, as in "
                                                      "\"384M\"",
                                                      memory));
        }
        vm.memory = *size;
        if (vm.memory < boot::kMinRam || vm.memory > layout::kMaxRam) {
            fail_at(*table.get("memory"), fmt::format("memory \"{}\" is outside {}M to {}M", memory,
                                                      boot::kMinRam / kMiB, layout::kMaxRam / kMiB));
        }
        vm.base = integer_of(table, "base");
        if (vm.base && (*vm.base < layout::kSliceFirst || *vm.base % layout::kSliceAlignment != 0 ||
                        *vm.base > layout::kSliceLast)) {
            fail_at(*table.get("base"), fmt::format("base 0x{:x} must be a multiple of 2 MiB from 0x{:x} to 0x{:x}",
                                                    *vm.base, layout::kSliceFirst, layout::kSliceLast));
        }
    }

    void read_images(const toml::table &table, MachineVm &vm) const
    {
        const auto kernel = string_of(table, "kernel");
        if (!kernel) {
            fail_at(table,
                    fmt::format("the VM \"{}\" has no kernel; add kernel = \"debian:amd64\" or a path", vm.name));
        }
        const toml::node *node = table.get("kernel");
        std::string flavour;
        vm.kernel_label = *kernel;
        if (kernel->starts_with(kDebian)) {
            flavour = kernel->substr(kDebian.size());
            if (!valid_name(flavour)) {
                fail_at(*node, fmt::format("kernel \"{}\" names no flavour; write \"debian:amd64\" or "
                                           "\"debian:cloud-amd64\"",
                                           *kernel));
            }
            vm.kernel = places_.images / flavour / "vmlinuz";
            expect_readable(vm.kernel, "kernel", node,
                            "scripts/setup fetches debian:amd64 and debian:cloud-amd64; or name a file");
        } else {
            vm.kernel = relative_to_file(*kernel);
            expect_readable(vm.kernel, "kernel", node, "correct kernel in the machine file");
        }

        const std::string initrd = string_of(table, "initrd").value_or("banyan:default");
        if (initrd == "banyan:default" && flavour.empty()) {
            fail_at(table.contains("initrd") ? *table.get("initrd") : *node,
                    "initrd \"banyan:default\" holds the modules of a debian: kernel; with a kernel file, name an "
                    "initrd file too");
        }
        vm.initrd =
            file_of(table, "initrd", "initrd", "banyan:default", places_.share / fmt::format("initrd-{}.img", flavour));
        vm.loader = file_of(table, "loader", "secure loader", "banyan:loader", places_.share / "loader.slb");
        vm.stage0 = file_of(table, "stage0", "stage 0", "banyan:stage0", places_.share / "stage0.bin");

        vm.command_line = string_of(table, "command_line").value_or(std::string(kDefaultCommandLine));
        const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
        if (std::any_of(vm.command_line.begin(), vm.command_line.end(), control)) {
            fail_at(*table.get("command_line"), "command_line must be one line without control characters");
        }
        if (vm.command_line.size() > kMaxCommandLine) {
            fail_at(*table.get("command_line"), fmt::format("command_line has {} bytes; Linux takes at most {}",
                                                            vm.command_line.size(), kMaxCommandLine));
        }
    }

    void check_cores(const toml::table &section, Machine &machine) const
    {
        const std::size_t needed = machine.vms.size() + 1;
        machine.cores = static_cast<unsigned>(needed);
        const auto cores = integer_of(section, "cores");
        if (!cores) {
            return;
        }
        const toml::node &node = *section.get("cores");
        if (*cores < 2 || *cores > dt::kMaxCores) {
            fail_at(node, fmt::format("cores = {} is outside 2 to {}", *cores, dt::kMaxCores));
        }
        if (*cores < needed) {
            fail_at(node, fmt::format("{} VMs need {} cores, one each and core 0 for the hypervisor, but cores = {}; "
                                      "raise cores or remove VMs",
                                      machine.vms.size(), needed, *cores));
        }
        machine.cores = static_cast<unsigned>(*cores);
    }

    /// Against the VMs before it. VMs without a base go where there is room.
    void check_base(const toml::table &table, const MachineVm &vm, const Machine &machine) const
    {
        for (const MachineVm &other : machine.vms) {
            if (vm.base && other.base && *vm.base < *other.base + other.memory && *other.base < *vm.base + vm.memory) {
                fail_at(*table.get("base"),
                        fmt::format("the memory of VM \"{}\" (0x{:x} to 0x{:x}) overlaps that of VM \"{}\" (0x{:x} to "
                                    "0x{:x}); move it, or leave base out",
                                    vm.name, *vm.base, *vm.base + vm.memory, other.name, *other.base,
                                    *other.base + other.memory));
            }
        }
    }

    fs::path file_;
    const Places &places_;
};

} // namespace

Places Places::of_executable()
{
    if (const char *build = std::getenv("BANYAN_BUILD_DIR"); build != nullptr && *build != '\0') {
        const fs::path folder = fs::absolute(build);
        return {folder / "bin", folder / "share/banyan", folder / "images"};
    }
    std::error_code error;
    const fs::path self = fs::read_symlink("/proc/self/exe", error);
    const fs::path folder = self.parent_path().parent_path();
    return {folder / "bin", folder / "share/banyan", folder / "images"};
}

Outcome<Machine> parse_machine(std::string_view text, const fs::path &file, const Places &places)
{
    try {
        const toml::table root = toml::parse(text, std::string_view(file.native()));
        return Reader(file, places).read(root);
    } catch (const toml::parse_error &error) {
        const auto &where = error.source().begin;
        return failed(Exit::kUsage, fmt::format("{}:{}:{}: not TOML: {}", file.string(), where.line, where.column,
                                                error.description()));
    } catch (Bad &bad) {
        return tl::unexpected<Failure>(std::move(bad.failure));
    }
}

Outcome<Machine> read_machine(const fs::path &file, const Places &places)
{
    std::error_code error;
    if (fs::is_directory(file, error)) {
        return failed(Exit::kUsage, fmt::format("cannot read the machine file {}: it is a directory", file.string()));
    }
    errno = 0;
    std::ifstream in(file, std::ios::binary);
    if (!in) {
        return failed(Exit::kUsage,
                      fmt::format("cannot read the machine file {}: {}", file.string(), std::strerror(errno)));
    }
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    return parse_machine(text, file, places);
}

tl::expected<Machine, std::string> load_machine(const fs::path &file)
{
    auto machine = read_machine(file, Places::of_executable());
    if (!machine) {
        return tl::unexpected<std::string>(std::move(machine.error().text));
    }
    return std::move(*machine);
}

} // namespace banyan::tool
