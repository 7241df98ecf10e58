/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Empty on purpose. <cstdint> and friends reach glibc's <gnu/stubs.h>, which for -m32 wants this file of
   libc6-dev-i386. Freestanding code uses nothing that it would describe. */
