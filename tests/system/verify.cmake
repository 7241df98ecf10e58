# SPDX-License-Identifier: GPL-2.0-or-later
banyan_add_test(system-verify LABELS system TIMEOUT 900 SERIAL
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/verify_test.py ${PROJECT_BINARY_DIR}
    ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
