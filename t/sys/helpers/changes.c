/*
 * Tries every system call that could change something: changes DIR NAME
 * (a mount and a file in it), a line each: "call ERRNO", or "call done".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static void tell(const char *what, long r)
{
	printf("%s %s\n", what, r < 0 ? strerrorname_np(errno) : "done");
	fflush(stdout);
}

static void try_open(const char *what, const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	tell(what, fd);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	char file[4096], new[4096], dir[4096], control[4096], other[4096];
	struct timespec ts[2] = { { 1000, 1 }, { 1000, 1 } }, omit[2] = { { 0, UTIME_OMIT }, { 2000000000, 5 } };
	struct timespec atime_only[2] = { { 1000, 1 }, { 0, UTIME_OMIT } };
	struct timeval tv[2] = { { 1000, 1 }, { 1000, 1 } };
	struct utimbuf ut = { 1000, 1000 };
	struct stat st;

	if (argc != 4)
		return 2;
	snprintf(file, sizeof(file), "%s/%s", argv[1], argv[2]);
	snprintf(other, sizeof(other), "%s/%s", argv[1], argv[3]);
	snprintf(new, sizeof(new), "%s/new.properties", argv[1]);
	snprintf(dir, sizeof(dir), "%s/new.d", argv[1]);
	snprintf(control, sizeof(control), "%s/.connectfs", argv[1]);

	try_open("open(O_WRONLY)", file, O_WRONLY);
	try_open("open(O_RDWR)", file, O_RDWR);
	try_open("open(O_WRONLY|O_APPEND)", file, O_WRONLY | O_APPEND);
	try_open("open(O_RDONLY|O_TRUNC)", file, O_RDONLY | O_TRUNC);
	try_open("open(O_WRONLY|O_TRUNC)", file, O_WRONLY | O_TRUNC);
	try_open("open(O_CREAT)", new, O_WRONLY | O_CREAT);
	try_open("open(O_CREAT|O_EXCL)", new, O_RDWR | O_CREAT | O_EXCL);
	try_open("open(O_RDONLY|O_CREAT)", new, O_RDONLY | O_CREAT);
	tell("creat", creat(new, 0644));
	tell("truncate(0)", truncate(file, 0));
	if (!stat(file, &st))
		tell("truncate(same)", truncate(file, st.st_size));
	tell("chmod", chmod(file, 0666));
	tell("chmod(same)", stat(file, &st) ? -1 : chmod(file, st.st_mode & 07777));
	tell("chown", chown(file, 12345, 12345));
	tell("lchown", lchown(file, 12345, 12345));
	tell("chown(group)", chown(file, -1, getgid() + 1));
	tell("utime(NULL)", utime(file, NULL));
	tell("utime", utime(file, &ut));
	tell("utimes", utimes(file, tv));
	tell("utimensat(NULL)", utimensat(AT_FDCWD, file, NULL, 0));
	tell("utimensat(both)", utimensat(AT_FDCWD, file, ts, 0));
	tell("utimensat(mtime)", utimensat(AT_FDCWD, file, omit, 0));
	tell("utimensat(atime)", utimensat(AT_FDCWD, file, atime_only, 0));
	if (!stat(file, &st)) {
		struct timespec same[2] = { { 0, UTIME_OMIT }, st.st_mtim };

		tell("utimensat(same mtime)", utimensat(AT_FDCWD, file, same, 0));
	}
	tell("utimensat(root)", utimensat(AT_FDCWD, argv[1], ts, 0));
	tell("chmod(root)", chmod(argv[1], 0777));
	tell("chown(root)", chown(argv[1], 12345, 12345));
	tell("unlink", unlink(file));
	tell("rmdir(.connectfs)", rmdir(control));
	tell("mkdir", mkdir(dir, 0755));
	tell("mknod(regular)", mknod(new, S_IFREG | 0644, 0));
	tell("mknod(fifo)", mknod(new, S_IFIFO | 0644, 0));
	tell("mknod(socket)", mknod(new, S_IFSOCK | 0644, 0));
	tell("symlink", symlink("/etc/passwd", new));
	tell("link", link(file, new));
	tell("rename(to new)", rename(file, new));
	tell("rename(over)", rename(file, other));
	tell("renameat2(NOREPLACE)", syscall(SYS_renameat2, AT_FDCWD, file, AT_FDCWD, new, RENAME_NOREPLACE));
	tell("renameat2(EXCHANGE)", syscall(SYS_renameat2, AT_FDCWD, file, AT_FDCWD, other, RENAME_EXCHANGE));
	tell("setxattr", setxattr(file, "user.x", "y", 1, 0));
	tell("setxattr(ours)", setxattr(file, "user.connectfs.state", "ok", 2, 0));
	tell("removexattr(ours)", removexattr(file, "user.connectfs.state"));
	tell("setxattr(root)", setxattr(argv[1], "user.x", "y", 1, 0));

	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	if (strlen(new) < sizeof(sun.sun_path)) {
		strcpy(sun.sun_path, new);
		tell("bind", bind(sock, (struct sockaddr *)&sun, sizeof(sun)));
	}
	close(sock);

	int fd = open(file, O_RDONLY);
	if (fd < 0) {
		printf("no-read %s\n", strerrorname_np(errno));
		return 0;
	}
	int attr = 0;
	tell("fchmod", fchmod(fd, 0666));
	tell("fchown", fchown(fd, 12345, 12345));
	tell("futimens(NULL)", futimens(fd, NULL));
	tell("futimens", futimens(fd, ts));
	tell("fsetxattr", fsetxattr(fd, "user.x", "y", 1, 0));
	tell("fd: write", write(fd, "x", 1));
	tell("fd: pwrite", pwrite(fd, "x", 1, 0));
	tell("fd: ftruncate", ftruncate(fd, 0));
	tell("fd: fallocate", fallocate(fd, 0, 0, 4096));
	tell("fd: mmap(shared, write)", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	tell("fd: copy_file_range", copy_file_range(fd, NULL, fd, NULL, 1, 0));
	tell("fd: ioctl(SETFLAGS)", ioctl(fd, FS_IOC_GETFLAGS, &attr) ? ioctl(fd, FS_IOC_SETFLAGS, &attr) : ioctl(fd, FS_IOC_SETFLAGS, &attr));
	tell("fd: O_TMPFILE", open(argv[1], O_TMPFILE | O_RDWR, 0600));
	close(fd);
	return 0;
}
