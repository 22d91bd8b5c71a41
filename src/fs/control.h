/*
 * The files of .connectfs/: status.json, metrics, version and refresh.
 */
#ifndef CONNECTFS_FS_CONTROL_H
#define CONNECTFS_FS_CONTROL_H

#include "fs/node.h"

struct kept_handle;

/* Longest WRITE to refresh that is taken. */
enum { CONTROL_WRITE_MAX = 64 * 1024 };

/* In fs_new, and in fs_free when nothing is open any more. */
int control_new(struct fs *fs);
void control_free(struct fs *fs);

bool control_is_ino(uint64_t ino); /* one of the four files */
/* The i-th file's name and id; NULL after the last. */
const char *control_file(size_t i, uint64_t *ret_ino);
uint64_t control_find(const char *name); /* 0: none */
void control_attr(struct fs *fs, uint64_t ino, struct stat *ret); /* also of the directory itself */

/* These answer req, now or later. */
void control_open(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi);
void control_read(struct fs *fs, fuse_req_t req, uint64_t ino, size_t size, off_t off, uint64_t fh);
void control_write(struct fs *fs, fuse_req_t req, uint64_t ino, const char *data, size_t size,
                   struct fuse_file_info *fi);
void control_flush(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi);

/* RELEASE. */
void control_dropped(struct fs *fs, uint64_t ino, uint64_t unique);
/* Takes over a file that was open in the worker before: true, and it has h. Then, when all have been taken: drops what
 * nobody reads. */
bool control_restore(struct fs *fs, struct kept_handle *h);
void control_restored(struct fs *fs);

#endif
