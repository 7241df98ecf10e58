// SPDX-License-Identifier: GPL-2.0-or-later
#include <charconv>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "tool/commands.hpp"
#include "tool/run.hpp"

namespace banyan::tool {

namespace {

/// "300" for every phase, "boot=300" for one.
std::string apply_timeout(const std::string &text, Timeouts &timeouts)
{
    const std::size_t equals = text.find('=');
    const std::string number = equals == std::string::npos ? text : text.substr(equals + 1);
    unsigned seconds = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), seconds);
    if (error != std::errc{} || end != number.data() + number.size() || seconds == 0 || seconds > 86400) {
        return fmt::format("\"{}\" is not a number of seconds (1 to 86400)", number);
    }
    if (equals == std::string::npos) {
        timeouts.of.fill(std::chrono::seconds(seconds));
        return {};
    }
    const auto phase = phase_of(text.substr(0, equals));
    if (!phase) {
        std::string known;
        for (std::size_t i = 0; i < kPhases; ++i) {
            known += (i == 0 ? "" : ", ") + std::string(name_of(static_cast<Phase>(i)));
        }
        return fmt::format("\"{}\" is not a phase; there are {}", text.substr(0, equals), known);
    }
    timeouts[*phase] = std::chrono::seconds(seconds);
    return {};
}

} // namespace

void add_run(CLI::App &app, Exit &exit)
{
    auto request = std::make_shared<RunRequest>();
    CLI::App *run_command = app.add_subcommand("run", "boot a machine's VMs, collect their evidence and verify it");
    run_command->add_option("FILE", request->machine_file, "machine file (docs/spec/machine-file.md)")->required();
    run_command->add_option("--vms", request->vms, "only the first N VMs of the file")->type_name("N");
    run_command->add_option("--json", request->json, "write a report (docs/schema/run.schema.json)")->type_name("FILE");
    run_command->add_option("--evidence", request->evidence, "keep evidence, consoles and logs here")->type_name("DIR");
    run_command
        ->add_option_function<std::vector<std::string>>(
            "--timeout",
            [request](const std::vector<std::string> &all) {
                for (const std::string &text : all) {
                    if (const std::string why = apply_timeout(text, request->timeouts); !why.empty()) {
                        throw CLI::ValidationError("--timeout", why);
                    }
                }
            },
            "most time for each phase or for one: boot-hypervisor, create, launch, boot, evidence, poweroff")
        ->type_name("[PHASE=]SECONDS");
    run_command->add_option("--task", request->task, "besides attesting: seal a secret to PCR 17, or open it")
        ->check(CLI::IsMember({"seal", "unseal"}));
    const std::map<std::string, End> ends{{"poweroff", End::kPoweroff},
                                          {"reboot", End::kReboot},
                                          {"stop", End::kStop},
                                          {"panic", End::kPanic},
                                          {"hang", End::kHang}};
    run_command
        ->add_option("--end", request->end, "how the VMs end: poweroff, reboot, stop, panic, hang (default poweroff)")
        ->transform(CLI::Transformer(ends, CLI::ignore_case).description(""))
        ->type_name("HOW");
    run_command->add_option("--qemu", request->qemu, "another QEMU than the one built here")->type_name("FILE");
    run_command->add_option("--qemu-arg", request->qemu_arguments, "one more argument for QEMU; may be repeated")
        ->type_name("ARG")
        ->allow_extra_args(false);
    run_command->add_flag("--quiet", request->quiet, "a line a step, also on a terminal");
    run_command->callback([request, &exit] { exit = run(*request); });
}

} // namespace banyan::tool
