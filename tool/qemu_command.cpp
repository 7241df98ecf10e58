// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/qemu_command.hpp"

#include <fstream>

#include <fmt/format.h>

#include "tool/io.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

/// QEMU wants names of ports that are unique in the server, though no VM sees another's.
std::string port_name(unsigned domain)
{
    return fmt::format("banyan.evidence.{}", domain);
}

/// QEMU's option syntax: a comma in a value is doubled.
std::string value(const fs::path &path)
{
    std::string out;
    for (const char c : path.string()) {
        out += c;
        if (c == ',') {
            out += ',';
        }
    }
    return out;
}

/// -device that gives an instance what the machine file says of it; empty: it has the defaults.
std::string setup_of(unsigned instance, const MachineTpm &tpm)
{
    if (tpm == MachineTpm{}) {
        return "";
    }
    std::string device = fmt::format("banyan-vtpm-setup,instance={}", instance);
    if (tpm.crb) {
        device += ",interface=crb";
    }
    for (std::size_t i = 0; i < tpm.banks.size(); ++i) {
        device += fmt::format("{}{}", i == 0 ? ",banks=" : "+", attest::name_of(tpm.banks[i]));
    }
    if (tpm.did_vid) {
        device += fmt::format(",did-vid=0x{:08x}", *tpm.did_vid);
    }
    return device;
}

} // namespace

std::string run_file::agent(unsigned domain)
{
    return fmt::format("agent-{}.sock", domain);
}
std::string run_file::module(std::size_t index)
{
    return fmt::format("m{}", index);
}

std::vector<std::string> qemu_command(const Plan &plan, const QemuOptions &options)
{
    const Machine &machine = plan.machine;
    std::vector<std::string> all{options.qemu.string()};
    const auto add = [&all](auto &&...words) { (all.emplace_back(words), ...); };
    for (const fs::path &folder : options.firmware) {
        add("-L", folder.string());
    }
    add("-name", "banyan", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot");
    add("-M", fmt::format("q35,smm=off,max-ram-below-4g={}M", layout::kHostRam >> 20));
    add("-accel", "tcg", "-cpu", "EPYC,-hypervisor,+invtsc,+svm,+skinit,+tsc-deadline");
    add("-smp", fmt::format("{}", machine.cores));
    add("-m", fmt::format("{}M", plan.memory >> 20));

    // QEMU is the client of each socket: it is connected before the first instruction runs.
    add("-chardev", fmt::format("socket,id=qmp,path={}", run_file::kQmp), "-mon", "chardev=qmp,mode=control");
    add("-chardev", fmt::format("socket,id=mgmt,path={}", run_file::kManagement), "-serial", "chardev:mgmt");
    add("-debugcon", fmt::format("file:{}/hypervisor.log", run_file::kEvidence));

    std::string vtpm = fmt::format("banyan-vtpm,id=vtpm,engine={},platform={},instances={}", value(options.engine),
                                   value(machine.platform_private), plan.instances);
    if (machine.hash_rate) {
        vtpm += fmt::format(",hash-rate={}", *machine.hash_rate);
    }
    std::string domains = "banyan-domains,id=domains";
    if (machine.launch_arbiter) {
        domains += ",launch-arbiter=" + *machine.launch_arbiter;
    }
    add("-device", vtpm);
    for (const VmPlan &vm : plan.vms) {
        for (unsigned window = 0; window < vm.vm.tpms.size(); ++window) {
            const std::string setup = setup_of(layout::instance_of(vm.domain, window), vm.vm.tpms[window]);
            if (!setup.empty()) {
                add("-device", setup);
            }
        }
    }
    add("-device", domains);

    std::string modules;
    for (std::size_t i = 0; i < plan.modules.size(); ++i) {
        modules += fmt::format("{}{} {}", i == 0 ? "" : ",", run_file::module(i), plan.modules[i].name);
    }
    add("-kernel", run_file::kHypervisor, "-initrd", modules);

    for (const VmPlan &vm : plan.vms) {
        const unsigned k = vm.domain;
        add("-device", fmt::format("pcie-root-port,id=rp{0},bus=pcie.0,addr={1}.0,chassis={0},slot={0}", k,
                                   fmt::format("0x{:x}", layout::kFirstRootPortSlot + k)));
        add("-device", fmt::format("virtio-serial-pci,id=vs{0},bus=rp{0},addr=0.0", k));
        add("-chardev", fmt::format("file,id=con{},path={}/consoles/{}.log", k, run_file::kEvidence, vm.vm.name));
        add("-device", fmt::format("virtconsole,bus=vs{0}.0,chardev=con{0}", k));
        add("-chardev", fmt::format("socket,id=agent{},path={}", k, run_file::agent(k)));
        add("-device", fmt::format("virtserialport,bus=vs{0}.0,name={1},chardev=agent{0}", k, port_name(k)));
    }
    all.insert(all.end(), options.extra.begin(), options.extra.end());
    return all;
}

std::vector<fs::path> firmware_folders(const Places &places)
{
    std::vector<fs::path> folders;
    std::ifstream in(places.bin.parent_path() / "qemu/firmware-dirs");
    for (std::string line; std::getline(in, line);) {
        if (!line.empty()) {
            folders.emplace_back(line);
        }
    }
    if (folders.empty()) {
        folders = {"/usr/share/seabios", "/usr/share/qemu"};
    }
    return folders;
}

Outcome<void> fill_run_folder(const Plan &plan, const fs::path &folder, const fs::path &evidence)
{
    const auto link = [&folder](const fs::path &to, const std::string &name) -> Outcome<void> {
        std::error_code error;
        fs::create_symlink(fs::absolute(to), folder / name, error);
        if (error) {
            return failed(Exit::kEnvironment,
                          fmt::format("cannot link {}: {}", (folder / name).string(), error.message()));
        }
        return {};
    };
    if (auto done = link(plan.machine.hypervisor, run_file::kHypervisor); !done) {
        return done;
    }
    if (auto done = link(evidence, run_file::kEvidence); !done) {
        return done;
    }
    for (std::size_t i = 0; i < plan.modules.size(); ++i) {
        const Module &module = plan.modules[i];
        auto done = module.file.empty() ? write_file(folder / run_file::module(i), module.bytes)
                                        : link(module.file, run_file::module(i));
        if (!done) {
            return done;
        }
    }
    return {};
}

} // namespace banyan::tool
