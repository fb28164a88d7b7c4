// The main of a test program. Its children are this program run again, so polyproc comes first.
#include <polyproc/process/init.hpp>

int run_catch(int argc, char** argv);

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  return run_catch(argc, argv);
}
