// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <CLI/CLI.hpp>

#include "tool/exit_status.hpp"

namespace banyan::tool {

// Each adds its subcommand to `app`. The subcommand's callback does the work and leaves its exit status in `exit`,
// which lives as long as `app`.
void add_run(CLI::App &app, Exit &exit);      // banyan run FILE
void add_platform(CLI::App &app, Exit &exit); // banyan platform new|show
void add_verify(CLI::App &app, Exit &exit);   // banyan verify
void add_vtpm(CLI::App &app, Exit &exit);     // banyan vtpm VERB: cmd_vtpm.hpp

} // namespace banyan::tool
