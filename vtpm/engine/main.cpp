// SPDX-License-Identifier: GPL-2.0-or-later
// banyan-vtpm-engine: the vTPM's processes. Started by QEMU, not by people.
#include "vtpm/engine/roles.hpp"

int main(int argc, char **argv)
{
    return banyan::vtpm::run_engine(argc, argv, {});
}
