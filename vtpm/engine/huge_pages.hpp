// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

namespace banyan::vtpm {

/// Moves this program's code and constants (what is read-only after relocation among them) onto huge pages, which all
/// processes forked later share: hundreds of workers take turns, and each turn begins with cold translations. Best effort:
/// without huge pages, or on any failure, all stays as it was. The calling process has one thread.
void move_constants_to_huge_pages();

} // namespace banyan::vtpm
