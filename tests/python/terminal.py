"""Runs a program on a terminal of a given size, presses keys, and tells what its screen showed.

    terminal.py COLUMNS LINES STEPS COMMAND...

STEPS is a JSON list of [text, keys]: when the text stands on the screen, it is noted and the keys are pressed; keys may
also be the name of a signal. Prints JSON: the screens of the steps, how the program ended, and whether it gave the
terminal back: its own modes, its cursor, its first screen. Nothing but Python's own library.
"""

import fcntl
import json
import os
import re
import select
import signal
import struct
import sys
import termios
import time
import unicodedata

PATIENCE = 30

CONTROL = re.compile(r"\x1b\[([?]?)([0-9;]*)([A-Za-z])")


class Screen:
    """What a terminal shows: as much of ECMA-48 as a full-screen program uses that moves, clears and writes."""

    def __init__(self, columns, lines):
        self.columns, self.lines = columns, lines
        self.alternate = self.taken = False
        self.cursor_hidden = False
        self.overrun = False
        # Between the marks of a synchronized update a screen is half old and half new.
        self.whole = True
        self.wipe()
        self.rest = ""

    def wipe(self):
        self.cells = [[" "] * self.columns for _ in range(self.lines)]
        self.row = self.column = 0

    def feed(self, text):
        text = self.rest + text
        self.rest = ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = CONTROL.match(text, at)
                if not found:
                    if len(text) - at < 24:
                        self.rest = text[at:]
                        return
                    at += 1
                    continue
                self.control(*found.groups())
                at = found.end()
            else:
                self.write(text[at])
                at += 1

    def control(self, private, numbers, letter):
        first = [int(n) if n else 0 for n in numbers.split(";")]
        if private:
            if first == [1049]:
                self.alternate = letter == "h"
                self.taken = self.taken or self.alternate
                self.wipe()
            elif first == [25]:
                self.cursor_hidden = letter == "l"
            elif first == [2026]:
                self.whole = letter == "l"
        elif letter == "H":
            self.row = max(first[0], 1) - 1
            self.column = max(first[1] if len(first) > 1 else 1, 1) - 1
        elif letter == "K":
            self.cells[self.row][self.column :] = [" "] * (self.columns - self.column)
        elif letter == "J":
            self.cells[self.row][self.column :] = [" "] * (self.columns - self.column)
            for row in range(self.row + 1, self.lines):
                self.cells[row] = [" "] * self.columns
        # `m` colours only.

    def write(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row = min(self.row + 1, self.lines - 1)
        else:
            wide = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
            if self.column + wide > self.columns:
                # A screen whose lines are measured never comes here; what is printed before it may.
                self.overrun = self.overrun or self.alternate
                return
            self.cells[self.row][self.column] = letter
            if wide == 2:
                self.cells[self.row][self.column + 1] = ""
            self.column += wide

    def text(self):
        return ["".join(row).rstrip() for row in self.cells]


def main():
    columns, lines = int(sys.argv[1]), int(sys.argv[2])
    steps, command = json.loads(sys.argv[3]), sys.argv[4:]
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    before = termios.tcgetattr(inner)
    child = os.fork()
    if child == 0:
        os.close(outer)
        os.login_tty(inner)
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    screen, screens, raw = Screen(columns, lines), [], b""
    deadline = time.monotonic() + PATIENCE
    pending, code = b"", None
    while code is None:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        if select.select([outer], [], [], 0.05)[0]:
            pending += os.read(outer, 65536)
            try:
                text, pending = pending.decode(), b""
            except UnicodeDecodeError as cut:
                text, pending = pending[: cut.start].decode(), pending[cut.start :]
            screen.feed(text)
            if steps and screen.whole and any(steps[0][0] in line for line in screen.text()):
                screens.append(screen.text())
                keys = steps.pop(0)[1]
                if keys.startswith("SIG"):
                    os.kill(child, getattr(signal, keys))
                else:
                    os.write(outer, keys.encode())
        else:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
    after = termios.tcgetattr(inner)
    print(
        json.dumps(
            {
                "screens": screens,
                "last": screen.text(),
                "missed": [step[0] for step in steps],
                "code": code,
                "modes_restored": before == after,
                "taken": screen.taken,
                "alternate": screen.alternate,
                "cursor_hidden": screen.cursor_hidden,
                "overrun": screen.overrun,
            }
        )
    )


main()
