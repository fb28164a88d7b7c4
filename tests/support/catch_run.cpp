// Catch2 itself. A file of its own, because it takes long to compile and does not depend on our headers.
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

int run_catch(int argc, char** argv) { return Catch::Session().run(argc, argv); }
