// SPDX-License-Identifier: GPL-2.0-or-later
#include <csignal>
#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include "tool/commands.hpp"

namespace {

int run_command_line(int argc, char **argv)
{
    using namespace banyan::tool;
    CLI::App app("Late launch inside virtual machines, on emulated hardware.", "banyan");
    app.require_subcommand(1);
    app.footer("Exit status: 0 attested, 1 refused, 2 usage, 3 environment, 4 time-out, 5 a VM failed before its\n"
               "evidence, 70 a defect of ours, 130 interrupted.");
    Exit exit = Exit::kOk;
    add_run(app, exit);
    add_platform(app, exit);
    add_verify(app, exit);
    add_vtpm(app, exit);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        return app.exit(error) == 0 ? static_cast<int>(Exit::kOk) : static_cast<int>(Exit::kUsage);
    }
    return static_cast<int>(exit);
}

} // namespace

int main(int argc, char **argv)
{
    std::signal(SIGPIPE, SIG_IGN); // a reader that goes away shows as an error of write
    try {
        return run_command_line(argc, argv);
    } catch (const std::exception &error) {
        fmt::print(stderr, "banyan: this is a defect of ours: {}\n", error.what());
        return static_cast<int>(banyan::tool::Exit::kBug);
    }
}
