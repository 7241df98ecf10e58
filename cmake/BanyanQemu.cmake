# SPDX-License-Identifier: GPL-2.0-or-later

# Target `qemu`: the custom QEMU, bin/qemu-system-x86_64, linked with libbanyan.a. scripts/qemu does the work and
# finds out itself what changed, so it runs each time and mostly does nothing.
function(banyan_add_qemu)
    set(all "")
    if(BANYAN_BUILD_QEMU)
        set(all ALL)
    endif()
    add_custom_target(qemu ${all}
        COMMAND ${CMAKE_COMMAND} -E env BANYAN_BUILD_DIR=${PROJECT_BINARY_DIR}
            "BANYAN_QEMU_SOURCE=${BANYAN_QEMU_SOURCE}" ${PROJECT_SOURCE_DIR}/scripts/qemu build
        DEPENDS banyan
        WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
        USES_TERMINAL VERBATIM
        COMMENT "Bringing QEMU up to date")
endfunction()
