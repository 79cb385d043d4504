"""Runs a command on a pseudo-terminal, waits for texts and types answers, and says in what state the terminal is left.

Standard input: one JSON object {"command": [...], "steps": [[text, typed], ...], "within": seconds}.
Standard output: one JSON object a step ({"seen": text}), and in the end {"code", "said", "is_sane", "cursor_is_hidden"}.
"""

import fcntl, json, os, pty, select, struct, subprocess, sys, termios, time

asked = json.loads(sys.stdin.readline())
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
before = termios.tcgetattr(slave)


def own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


child = subprocess.Popen(
    asked["command"], stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal, close_fds=True
)
said, at, deadline = b"", 0, time.monotonic() + asked["within"]


def read(until):
    """Reads what is there, or what comes until then."""
    global said
    if select.select([master], [], [], max(0, until - time.monotonic()))[0]:
        said += os.read(master, 65536)
        return True
    return False


def give_up(why):
    child.kill()
    print(json.dumps({"error": why, "said": said.decode(errors="replace")}), flush=True)
    sys.exit(1)


for text, typed in asked["steps"]:
    while (found := said.find(text.encode(), at)) < 0:
        if time.monotonic() > deadline:
            give_up(f"{text!r} did not come")
        if child.poll() is not None and not read(time.monotonic()):
            give_up(f"it has ended with {child.returncode} before {text!r} came")
        read(time.monotonic() + 0.05)
    at = found + len(text.encode())
    print(json.dumps({"seen": text}), flush=True)
    os.write(master, typed.encode())

while child.poll() is None:
    if time.monotonic() > deadline:
        give_up("it does not end")
    read(time.monotonic() + 0.01)
while read(time.monotonic()):
    pass
after = termios.tcgetattr(slave)
shown, hidden = said.rfind(b"\x1b[?25h"), said.rfind(b"\x1b[?25l")
print(
    json.dumps(
        {
            "code": child.returncode,
            "said": said.decode(errors="replace"),
            "is_sane": after == before,
            "cursor_is_hidden": hidden > shown,
        }
    ),
    flush=True,
)
