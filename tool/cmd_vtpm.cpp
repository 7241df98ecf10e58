// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/cmd_vtpm.hpp"

#include "tool/commands.hpp"

namespace banyan::tool {

void add_vtpm(CLI::App &app, Exit &exit)
{
    CLI::App *vtpm = app.add_subcommand("vtpm", "the vTPM on its own");
    vtpm->require_subcommand(1);
    add_vtpm_ca(*vtpm, exit);
    add_vtpm_inspect(*vtpm, exit);
    add_vtpm_serve(*vtpm, exit);
}

} // namespace banyan::tool
