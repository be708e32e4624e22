/* Lets the k-th call of a kind on a path below a folder fail, in this process. For LD_PRELOAD; tests/io_errors.py.

   Python, pyarrow, libsndfile and safetensors reach the kernel through these functions of libc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, SYNC, RENAME, OPEN, MKDIR, READ, KINDS };
static char root[PATH_MAX];
static size_t root_length;
static int failing = -1, code, for_good;
static long at;
static atomic_long counts[KINDS];

/* From now on calls below `folder` are counted, and call `k` (from 1) of `kind` fails with `error`; all calls of
   that kind from there on if `persistent`. With k = 0 none fails. */
void failing_calls_start(const char *folder, int kind, long k, int error, int persistent) {
  snprintf(root, sizeof root, "%s/", folder);
  failing = kind, at = k, code = error, for_good = persistent;
  for (int i = 0; i < KINDS; i++) counts[i] = 0;
  root_length = strlen(root);
}

long failing_calls_count(int kind) { return counts[kind]; }

static int fails(int kind, int below) {
  if (!below) return 0;
  long k = ++counts[kind];
  if (kind != failing || at == 0 || (for_good ? k < at : k != at)) return 0;
  errno = code;
  return 1;
}

static int path_below(const char *path) { return root_length && path && !strncmp(path, root, root_length); }

static int fd_below(int fd) {
  char link[64], path[PATH_MAX];
  if (!root_length) return 0;
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (length < 0) return 0;
  path[length] = 0;
  return path_below(path);
}

static int open_kind(int flags) { return flags & (O_WRONLY | O_RDWR | O_CREAT) ? OPEN : READ; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags) \
  mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }
#define OPENS(name) \
  int name(const char *path, int flags, ...) { \
    MODE(flags) \
    return fails(open_kind(flags), path_below(path)) ? -1 : REAL(name)(path, flags, mode); \
  }
#define OPENS_AT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    MODE(flags) \
    return fails(open_kind(flags), path_below(path)) ? -1 : REAL(name)(folder, path, flags, mode); \
  }
#define ON_FD(kind, type, name, arguments, values) \
  type name arguments { return fails(kind, fd_below(fd)) ? -1 : REAL(name) values; }
#define ON_PATH(kind, name, arguments, values) \
  int name arguments { return fails(kind, path_below(path)) ? -1 : REAL(name) values; }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
ON_FD(WRITE, ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(WRITE, ssize_t, pwrite, (int fd, const void *data, size_t size, off_t to), (fd, data, size, to))
ON_FD(WRITE, ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t to), (fd, data, size, to))
ON_FD(WRITE, ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(SYNC, int, fsync, (int fd), (fd))
ON_FD(SYNC, int, fdatasync, (int fd), (fd))
ON_PATH(RENAME, rename, (const char *path, const char *target), (path, target))
ON_PATH(RENAME, renameat, (int from, const char *path, int to, const char *target), (from, path, to, target))
ON_PATH(MKDIR, mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(MKDIR, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode))
