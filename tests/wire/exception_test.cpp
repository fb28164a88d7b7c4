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

#if defined(__GXX_RTTI)
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
