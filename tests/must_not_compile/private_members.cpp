// expect: it is no aggregate

#include <polyproc/polyproc.hpp>

#ifndef FIXED
class secret {
 public:
  explicit secret(int n) : n_(n) {}
  int get() const { return n_; }

 private:
  int n_;
};
#else
struct secret {
  explicit secret(int m) : n(m) {}
  int n;
};
template <>
struct polyproc::codec<secret> {
  static void write(polyproc::writer& out, secret const& s) { out.raw(s.n); }
  static secret read(polyproc::reader& in) { return secret(in.raw<int>()); }
};
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::writer out;
  polyproc::encode(out, secret(1));
}
