# SPDX-License-Identifier: GPL-2.0-or-later
"""The vTPM's bench: a file for each family of figures."""

import vtpm_guest
import vtpm_host

NEEDS_STOCK_QEMU = False


class Setting(vtpm_host.HostSetting):
    pass


FIGURES = {**vtpm_guest.FIGURES, **vtpm_host.FIGURES}
