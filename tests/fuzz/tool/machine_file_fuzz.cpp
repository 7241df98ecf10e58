// SPDX-License-Identifier: GPL-2.0-or-later
// Any text as a machine file: it is refused with a sentence, or what it says of its VMs' TPMs can be had, and each TPM that
// is not as by default gets one device.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tests/unit/tool/build_folder.hpp"
#include "tool/plan.hpp"
#include "tool/qemu_command.hpp"

namespace {

using namespace banyan;
using namespace banyan::tool;

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

bool has(const std::vector<attest::Bank> &banks, attest::Bank bank)
{
    return std::find(banks.begin(), banks.end(), bank) != banks.end();
}

void check(const MachineVm &vm)
{
    require(!vm.tpms.empty() && vm.tpms.size() <= dt::kVtpmWindows);
    for (const MachineTpm &tpm : vm.tpms) {
        require(!tpm.crb || vm.tpms.size() == 1);
        require(!tpm.did_vid || (*tpm.did_vid != 0 && *tpm.did_vid != 0xFFFF'FFFF));
        for (const attest::Bank bank : attest::kBanks) {
            require(std::count(tpm.banks.begin(), tpm.banks.end(), bank) <= 1);
        }
    }
    for (const attest::Bank quoted : attest::kQuotedBanks) {
        require(vm.tpms[0].banks.empty() || has(vm.tpms[0].banks, quoted));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    static const test::Build build;
    const auto machine = build.parse({reinterpret_cast<const char *>(data), size});
    if (!machine) {
        require(!machine.error().text.empty());
        require(machine.error().exit == Exit::kUsage || machine.error().exit == Exit::kEnvironment);
        return 0;
    }
    long chosen = 0;
    for (const MachineVm &vm : machine->vms) {
        check(vm);
        chosen += std::count_if(vm.tpms.begin(), vm.tpms.end(), [](const auto &tpm) { return tpm != MachineTpm{}; });
    }
    const auto plan = make_plan(*machine);
    if (!plan) {
        require(!plan.error().text.empty());
        return 0;
    }
    const auto all = qemu_command(*plan, {"qemu", "engine", {}, {}});
    const auto is_setup = [](const auto &word) { return word.starts_with("banyan-vtpm-setup,"); };
    require(std::count_if(all.begin(), all.end(), is_setup) == chosen);
    return 0;
}
