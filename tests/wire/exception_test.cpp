#include "support/catch.hpp"

#include <polyproc/wire/exception.hpp>

namespace {

std::exception_ptr sent(std::exception_ptr const& problem) {
  polyproc::writer out;
  polyproc::encode_exception(out, problem);
  polyproc::reader in(out.view());
  auto const received = polyproc::decode_exception(in);
  in.expect_end();
  return received;
}

/// Throws, sends, receives; the received one must be of the same type exactly and say the same.
template <class E>
void same(E const& problem) {
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(problem)));
  } catch (E const& e) {
    CHECK(std::string(e.what()) == problem.what());
#if defined(__GXX_RTTI)
    CHECK(typeid(e) == typeid(E));
#endif
  }
}

struct of_our_own : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct no_such_user : polyproc::travelling_error<no_such_user> {
  using travelling_error::travelling_error;
};
class disk_full : public polyproc::travelling_error<disk_full, std::length_error> {
 public:
  disk_full(std::string path, std::vector<long> missing)
      : travelling_error("the disk of " + path + " is full"), path_(std::move(path)), missing_(std::move(missing)) {}
  [[nodiscard]] auto parts() const { return std::tie(path_, missing_); }
  [[nodiscard]] std::vector<long> const& missing() const { return missing_; }

 private:
  std::string path_;
  std::vector<long> missing_;
};
/// Its parts cannot be encoded when it is asked.
struct secretive : polyproc::travelling_error<secretive> {
  explicit secretive(std::string const& what) : travelling_error(what) {}
  [[nodiscard]] std::tuple<std::string> parts() const { throw std::bad_alloc(); }
};
/// Cannot be made again from the parts that it gave.
struct choosy : polyproc::travelling_error<choosy> {
  explicit choosy(int number) : travelling_error("choosy") {
    if (number < 0) throw std::domain_error("not below zero");
  }
  [[nodiscard]] std::tuple<int> parts() const { return {-1}; }
};

std::vector<std::byte> bytes_of(std::exception_ptr const& problem) {
  polyproc::writer out;
  polyproc::encode_exception(out, problem);
  return {out.view().begin(), out.view().end()};
}

}  // namespace

TEST_CASE("[H8] standard exceptions and ours arrive as themselves") {
  same(std::logic_error("a"));
  same(std::domain_error("b"));
  same(std::invalid_argument("c"));
  same(std::length_error("d"));
  same(std::out_of_range("e"));
  same(std::runtime_error("f"));
  same(std::range_error("g"));
  same(std::overflow_error("h"));
  same(std::underflow_error("i"));
  same(std::bad_alloc());
  same(polyproc::error("j"));
  same(polyproc::queue_full());
  same(polyproc::queue_empty());
  same(polyproc::queue_closed());
  same(polyproc::timeout_error());
  same(polyproc::owner_died("k"));
  same(polyproc::start_error("l"));
  same(polyproc::handle_error("m"));
  same(polyproc::decode_error("n", 3));
  same(polyproc::worker_lost(12, -9));
  same(polyproc::remote_error("type", "o"));
  same(polyproc::time_limit_exceeded());
  same(polyproc::task_cancelled());
  same(polyproc::broken_promise());
  same(polyproc::broken_barrier());
  same(polyproc::connection_error("p"));
  same(polyproc::connection_lost("q"));
  same(polyproc::message_too_large(5000000000U, 1U));
  same(polyproc::authentication_error("r"));
  same(polyproc::group_failure("s", 3, 17, -11));
  same(std::system_error(std::make_error_code(std::errc::permission_denied), "open"));
  same(std::system_error(5, std::system_category()));
}

TEST_CASE("[H3] numbers that belong to an exception arrive with it") {
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(polyproc::worker_lost(1234, 7))));
  } catch (polyproc::worker_lost const& e) {
    CHECK(e.pid() == 1234);
    CHECK(e.exit_code() == 7);
    CHECK(e.signal() == 0);
  }
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(polyproc::decode_error("x", 99))));
  } catch (polyproc::decode_error const& e) {
    CHECK(e.offset() == 99);
  }
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(polyproc::message_too_large(5000000000U, 1U))));
  } catch (polyproc::message_too_large const& e) {
    CHECK(e.size() == 5000000000U);
  }
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(polyproc::group_failure("x", 3, 17, -11))));
  } catch (polyproc::group_failure const& e) {
    CHECK(e.index() == 3);
    CHECK(e.pid() == 17);
    CHECK(e.exit_code() == -11);
  }
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(std::system_error(2, std::generic_category(), "call"))));
  } catch (std::system_error const& e) {
    CHECK(e.code() == std::errc::no_such_file_or_directory);
  }
}

TEST_CASE("[H8] a code's meaning is said once, however many processes it passes") {
  for (char const* const text : {"", "call", ": "}) {
    std::system_error const problem(5, std::generic_category(), text);
    auto travelling = std::make_exception_ptr(problem);
    for (int i = 0; i < 3; ++i) travelling = sent(travelling);
    CHECK(polyproc::describe(travelling).what == problem.what());
  }
  std::system_error const bare(std::make_error_code(std::errc::io_error));
  CHECK(polyproc::describe(sent(std::make_exception_ptr(bare))).what == bare.what());
}

TEST_CASE("[H8] what cannot be made here arrives as remote_error") {
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(42)));
  } catch (polyproc::remote_error const& e) {
    CHECK_FALSE(e.type_name().empty());
    CHECK_FALSE(std::string(e.what()).empty());
  }
  // A type derived from a standard one arrives as that.
  CHECK_THROWS_AS(std::rethrow_exception(sent(std::make_exception_ptr(of_our_own("mine")))), std::runtime_error);
}

TEST_CASE("[H8] a type of the user's that derives from travelling_error arrives as itself, through any number of processes") {
  auto problem = std::make_exception_ptr(disk_full("/var", {7, 8}));
  for (int i = 0; i < 3; ++i) problem = sent(problem);
  try {
    std::rethrow_exception(problem);
  } catch (disk_full const& e) {
    CHECK(std::string(e.what()) == "the disk of /var is full");
    CHECK(e.missing() == std::vector<long>{7, 8});
  }
  CHECK_THROWS_AS(std::rethrow_exception(problem), std::length_error);
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(no_such_user("egon"))));
  } catch (no_such_user const& e) {
    CHECK(std::string(e.what()) == "egon");
  }
}

TEST_CASE("a travelling error that cannot be taken apart, or put together, is an exception all the same") {
  CHECK_THROWS_AS(std::rethrow_exception(sent(std::make_exception_ptr(secretive("no")))), polyproc::remote_error);
  CHECK_THROWS_WITH(std::rethrow_exception(sent(std::make_exception_ptr(secretive("no")))), "no");
  CHECK_THROWS_AS(sent(std::make_exception_ptr(choosy(1))), std::domain_error);
}

TEST_CASE("a travelling error of an unknown type is a remote_error, and damaged bytes are a decode_error, never more") {
  auto const whole = bytes_of(std::make_exception_ptr(disk_full("/var", {7, 8})));
  unsigned as_itself = 0, unknown = 0, refused = 0, other = 0;
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      auto changed = whole;
      changed[at] ^= std::byte(1U << bit);
      try {
        polyproc::reader in(changed);
        std::rethrow_exception(polyproc::decode_exception(in));
      } catch (disk_full const&) {
        ++as_itself;
      } catch (polyproc::remote_error const&) {
        ++unknown;
      } catch (polyproc::decode_error const&) {
        ++refused;
      } catch (std::exception const&) {
        ++other;  // its kind was changed into another
      }
    }
  CHECK(as_itself > 0);
  CHECK(unknown >= 64);  // each bit of the key
  CHECK(refused > 0);
  CHECK(as_itself + unknown + refused + other == 8 * whole.size());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    polyproc::reader in({whole.data(), size});
    CHECK_THROWS_AS((void)polyproc::decode_exception(in), polyproc::decode_error);
  }
}

#if defined(__GXX_RTTI)
TEST_CASE("a travelling error keeps what is nested in it, and may be nested itself") {
  std::exception_ptr problem;
  try {
    try {
      throw no_such_user("egon");
    } catch (...) {
      std::throw_with_nested(disk_full("/home", {}));
    }
  } catch (...) {
    problem = sent(sent(std::current_exception()));
  }
  try {
    std::rethrow_exception(problem);
  } catch (disk_full const& e) {
    CHECK_THROWS_AS(std::rethrow_if_nested(e), no_such_user);
  }
}

TEST_CASE("what is nested in an exception arrives with it") {
  std::exception_ptr problem;
  try {
    try {
      try {
        throw std::out_of_range("innermost");
      } catch (...) {
        std::throw_with_nested(std::invalid_argument("middle"));
      }
    } catch (...) {
      std::throw_with_nested(std::runtime_error("outermost"));
    }
  } catch (...) {
    problem = std::current_exception();
  }
  std::vector<std::string> said;
  auto const unfold = [&](auto&& self, std::exception const& e) -> void {
    said.emplace_back(e.what());
    try {
      std::rethrow_if_nested(e);
    } catch (std::exception const& inner) {
      self(self, inner);
    }
  };
  try {
    std::rethrow_exception(sent(problem));
  } catch (std::runtime_error const& e) {
    unfold(unfold, e);
  }
  CHECK(said == std::vector<std::string>{"outermost", "middle", "innermost"});
  CHECK(polyproc::describe(std::make_exception_ptr(std::out_of_range("x"))).type == "std::out_of_range");
}
#endif

TEST_CASE("messages are cut at a limit, and bytes that are no exception are refused") {
  try {
    std::rethrow_exception(sent(std::make_exception_ptr(std::runtime_error(std::string(1 << 20, 'x')))));
  } catch (std::runtime_error const& e) {
    CHECK(std::string(e.what()).size() == 64 * 1024);
  }
  polyproc::writer out;
  polyproc::encode_exception(out, std::make_exception_ptr(std::runtime_error("whole")));
  for (std::size_t n = 0; n < out.view().size(); ++n) {
    polyproc::reader in(out.view().first(n));
    CHECK_THROWS_AS(polyproc::decode_exception(in), polyproc::decode_error);
  }
  std::vector<std::byte> none{std::byte{0}};
  polyproc::reader in(none);
  CHECK_THROWS_AS(polyproc::decode_exception(in), polyproc::decode_error);
}
