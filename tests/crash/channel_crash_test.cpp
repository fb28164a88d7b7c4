#include "crash/crash_points.hpp"
