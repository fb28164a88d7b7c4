/// Catch2, whichever version is here.
#pragma once

#include "support/sanitizers.hpp"

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
