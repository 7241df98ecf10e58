// SPDX-License-Identifier: GPL-2.0-or-later
DefinitionBlock ("", "SSDT", 2, "BANYAN", "BARETPM", 1)
{
    Scope (\_SB)
    {
        Device (BTPM)
        {
            Name (_HID, "MSFT0101")
            Name (_STR, Unicode ("TPM 2.0"))
            Name (_STA, 0x0F)
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0xFED40000, 0x00005000) })
        }
    }
}
