#include "trace/trace-hw_i386_banyan.h"
