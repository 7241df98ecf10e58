// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/cmd_vtpm.hpp"

namespace banyan::tool {

void add_vtpm_serve(CLI::App & /*vtpm*/, Exit & /*exit*/) {}

} // namespace banyan::tool
