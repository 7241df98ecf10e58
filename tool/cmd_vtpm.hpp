// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <CLI/CLI.hpp>

#include "tool/exit_status.hpp"

namespace banyan::tool {

// The verbs of `banyan vtpm`, a file each (cmd_vtpm_VERB.cpp).
void add_vtpm_ca(CLI::App &vtpm, Exit &exit);      // banyan vtpm ca
void add_vtpm_inspect(CLI::App &vtpm, Exit &exit); // banyan vtpm inspect FILE
void add_vtpm_serve(CLI::App &vtpm, Exit &exit);   // banyan vtpm serve

} // namespace banyan::tool
