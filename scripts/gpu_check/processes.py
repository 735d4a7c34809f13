"""Starting commands, and ending them with everything that they started."""
import os
import pathlib
import signal
import subprocess
import time

GRACE_S = 5  # bench finishes a step and saves when it is asked to end


def alive(pid):
    """Not ended; one that has ended and waits for its parent to ask counts as ended."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text(errors='replace').rsplit(')', 1)[1].split()[0] not in 'ZX'
    except (OSError, IndexError):
        return False


def children_of():
    """{process: [children]} of this machine; a process that ends meanwhile is left out."""
    tree = {}
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / 'stat').read_text(errors='replace').rsplit(')', 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        tree.setdefault(parent, []).append(int(entry.name))
    return tree


def descendants(pid):
    tree, found, todo = children_of(), [], [pid]
    while todo:
        more = tree.get(todo.pop(), [])
        found += more
        todo += more
    return found


def environment_of(pid):
    try:
        words = pathlib.Path(f'/proc/{pid}/environ').read_bytes().decode(errors='replace').split('\0')
    except OSError:
        return {}
    return dict(word.partition('=')[::2] for word in words if '=' in word)


def rank_process(pid, rank):
    """The process of that rank among what `pid` started; None while there is none. A rank is the process that has no child of that rank."""
    names = ('OMPI_COMM_WORLD_RANK', 'PMI_RANK')
    ranks = [p for p in descendants(pid) if any(environment_of(p).get(name) == str(rank) for name in names)]
    return ranks[-1] if ranks else None


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def end_all(process):
    """Asks the command to end, waits, then kills what is left of it and of what it started."""
    family = descendants(process.pid)
    if process.poll() is None:
        kill(process.pid, signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    family = {process.pid, *family, *descendants(process.pid)}
    if process.poll() is not None:
        family.discard(process.pid)
    for pid in family:
        kill(pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + GRACE_S
    while any(map(alive, family)) and time.monotonic() < until:
        time.sleep(0.01)


def start(argv, environment, out, err):
    """In a session of its own, so that Ctrl-C comes to us alone and we end it in order."""
    return subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
