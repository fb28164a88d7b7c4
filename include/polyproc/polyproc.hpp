/// polyproc: multiprocessing for C++20. Everything.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/channel/queue.hpp>
#include <polyproc/memory/shared.hpp>
#include <polyproc/process/init.hpp>
#include <polyproc/process/process.hpp>
#include <polyproc/sync/barrier.hpp>
#include <polyproc/sync/condition_variable.hpp>
#include <polyproc/sync/event.hpp>
#include <polyproc/sync/guarded.hpp>
#include <polyproc/sync/guards.hpp>
#include <polyproc/sync/latch.hpp>
#include <polyproc/sync/mutex.hpp>
#include <polyproc/sync/once.hpp>
#include <polyproc/sync/recursive_mutex.hpp>
#include <polyproc/sync/semaphore.hpp>
#include <polyproc/sync/shared_mutex.hpp>
#include <polyproc/task/future.hpp>
#include <polyproc/task/process_pool.hpp>
#include <polyproc/version.hpp>
#include <polyproc/wire/callable.hpp>
#include <polyproc/wire/codec.hpp>
#include <polyproc/wire/error.hpp>
#include <polyproc/wire/exception.hpp>
