# Plays the service manager with a file descriptor store: manager.py SOCKET COMMAND…
# Starts COMMAND, says "ready PID" at each READY=1; at each line "kill" on its standard input it kills it by SIGKILL and
# starts it again with what it has stored (LISTEN_FDS); at "stop" it sends SIGTERM, waits, and says "stopped STATUS KEPT".
import array
import fcntl
import os
import select
import signal
import socket
import sys

path, command = sys.argv[1], sys.argv[2:]
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.bind(path)
store = {}


def start():
    names, fds = list(store), [os.dup(f) for f in store.values()]
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        return pid
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i, inheritable=True)
        os.close(fd)
    os.environ["NOTIFY_SOCKET"] = path
    if fds:
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(names))
    os.execv(command[0], command)


def hear():
    message, ancillary, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(64))
    lines = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            if lines.get("FDPOLL") == "0" and lines.get("FDSTORE") == "1":
                store[lines["FDNAME"]] = fds[0]
    if lines.get("FDSTOREREMOVE") == "1" and lines["FDNAME"] in store:
        os.close(store.pop(lines["FDNAME"]))
    if lines.get("READY") == "1":
        print("ready", lines["MAINPID"], flush=True)


pid = start()
while True:
    readable, _, _ = select.select([sock, sys.stdin], [], [])
    if sock in readable:
        hear()
        continue
    order = sys.stdin.readline().strip()
    os.kill(pid, signal.SIGTERM if order != "kill" else signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    while select.select([sock], [], [], 0.1)[0]:
        hear()
    if order != "kill":
        print("stopped", status, len(store), flush=True)
        break
    pid = start()
