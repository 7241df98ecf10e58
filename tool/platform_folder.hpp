// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tool/io.hpp"
#include "tool/machine.hpp"

namespace banyan::tool {

/// The machine's platform for this run alone, with at least so many vTPM instances. It is made if its folder is not
/// there yet. Nobody else runs on it while the result lives: two would overwrite each other's vTPM state.
Outcome<Fd> hold_platform(const Machine &machine, unsigned instances);

} // namespace banyan::tool
