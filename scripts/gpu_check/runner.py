"""Runs the steps: commands with time limits and logs, progress, and the JSON file, which is whole after every step."""
import json
import os
import pathlib
import sys
import time

from . import processes

TAIL_LINES = 30
TICK_S = 0.05
SHOW_S = 1.0


class Skip(Exception):
    """The step cannot be done here; the text says why."""


class Failed(Exception):
    """The step cannot go on; the text says why."""


class Interrupted(Exception):
    """A signal; its number."""


class Command:
    """One command that ran: its words, seconds, exit code (None: ended at its time limit) and files."""

    def __init__(self, argv, out, err):
        self.argv, self.out_file, self.err_file = argv, out, err
        self.code, self.seconds, self.json = None, 0.0, None

    @property
    def out(self):
        return self.out_file.read_text(encoding='utf-8', errors='replace')

    @property
    def err(self):
        return self.err_file.read_text(encoding='utf-8', errors='replace')

    @property
    def rows(self):
        return self.json['results'] if self.json else []

    def tail(self):
        return (self.out.splitlines()[-TAIL_LINES:] + self.err.splitlines()[-TAIL_LINES:])[-TAIL_LINES:]

    def last_word(self):
        """The line that says what went wrong: the last of stderr, else of stdout."""
        return next((line for text in (self.err, self.out) for line in reversed(text.splitlines()) if line.strip()), 'it said nothing')


class Progress:
    """On a terminal, one line that changes while a step runs; elsewhere only the line at a step's end. Time left: of the steps' guesses, scaled by
    how the guesses held so far."""

    def __init__(self, steps, quick):
        self.terminal = sys.stderr.isatty()
        self.left = {step.name: step.quick_s if quick else step.guess_s for step in steps}
        self.count, self.number = len(steps), 0
        self.guessed = self.took = 0.0
        self.shown = 0.0

    def begin(self, step):
        self.step, self.began, self.number = step, time.monotonic(), self.number + 1
        self.show(force=True)

    def time_left(self):
        scale = min(5.0, max(0.2, self.took / self.guessed)) if self.guessed > 0 else 1.0
        spent = time.monotonic() - self.began
        here = self.left[self.step.name] * scale
        return sum(self.left.values()) * scale - min(spent, here)

    def show(self, force=False):
        now = time.monotonic()
        if not self.terminal or (not force and now - self.shown < SHOW_S):
            return
        self.shown = now
        minutes = self.time_left() / 60
        left = f'about {minutes:.0f} min left' if minutes >= 1.5 else 'about a minute left'
        sys.stderr.write(f'\r\033[K[{self.number}/{self.count}] {self.step.name}: {now - self.began:.0f} s of at most {self.step.limit_s:.0f} s; {left}')
        sys.stderr.flush()

    def end(self, record):
        if self.terminal:
            sys.stderr.write('\r\033[K')
        name = record['name']
        self.guessed += self.left.pop(name, 0.0) if record['status'] != 'skipped' else 0.0
        self.took += record['seconds'] if record['status'] != 'skipped' else 0.0
        self.left.pop(name, None)
        sys.stderr.write(f'[{self.number}/{self.count}] {record["status"]:<7} {name:<13} {record["seconds"]:6.1f} s  {record["summary"]}\n')
        sys.stderr.flush()


class Context:
    """What a step gets: it runs commands, checks, notes, and returns its result."""

    def __init__(self, setup, record, progress, limit_s):
        self.setup, self.record, self.progress = setup, record, progress
        self.size = setup.size
        self.until = time.monotonic() + limit_s
        self.folder = setup.work / record['name']
        self.folder.mkdir(parents=True, exist_ok=True)

    def check(self, what, passed, detail=''):
        self.record['checks'].append({'what': what, 'passed': bool(passed), 'detail': str(detail)})
        return passed

    def note(self, text):
        self.record['notes'].append(text)

    def say(self, text):
        self.record['summary'] = text

    # ---- commands
    def begin(self, argv, **variables):
        """Starts a command; give it to finish()."""
        number = len(self.record['commands']) + 1
        command = Command([str(word) for word in argv], self.folder / f'{number}.out', self.folder / f'{number}.err')
        environment = {**os.environ, **self.setup.variables, 'RINGMARK_STORE': str(self.folder / 'store.db'), **{k: str(v) for k, v in variables.items()}}
        self.record['commands'].append({'argv': command.argv, 'seconds': None, 'exit_code': None, 'log': str(command.err_file)})
        command.entry = self.record['commands'][-1]
        command.began = time.monotonic()
        with open(command.out_file, 'wb') as out, open(command.err_file, 'wb') as err:
            try:
                command.process = processes.start(command.argv, environment, out, err)
            except OSError as e:
                raise Failed(f'{command.argv[0]}: {e.strerror}') from e
        return command

    def wait(self, command, limit_s=None, ready=None):
        """Until the command has ended, or ready() says so. False at the time limit, when everything of it is ended."""
        until = min(self.until, time.monotonic() + limit_s) if limit_s else self.until
        try:
            while command.process.poll() is None:
                if ready and ready():
                    return True
                if time.monotonic() > until:
                    processes.end_all(command.process)
                    return False
                self.progress.show()
                time.sleep(TICK_S)
        except BaseException:
            processes.end_all(command.process)
            raise
        return True

    def finish(self, command, expect=(0,), limit_s=None):
        """Waits and demands one of the exit codes (None: any)."""
        in_time = self.wait(command, limit_s)
        command.seconds = time.monotonic() - command.began
        command.code = command.process.returncode if in_time else None
        command.entry.update(seconds=round(command.seconds, 3), exit_code=command.code)
        if command.code != 0:
            command.entry['tail'] = command.tail()
        if not in_time:
            command.entry['timed_out'] = True
        if in_time and (expect is None or command.code in expect):
            return command
        if not in_time:
            raise Failed(f'took longer than its time limit: {" ".join(command.argv)}')
        raise Failed(f'exit code {command.code}: {command.last_word()}')

    def run(self, argv, expect=(0,), limit_s=None, **variables):
        return self.finish(self.begin(argv, **variables), expect, limit_s)

    def bench(self, *words, expect=(0,), limit_s=None, **variables):
        """The program with --json; command.json is what it wrote, None where it wrote nothing."""
        path = self.folder / f'{len(self.record["commands"]) + 1}.json'
        command = self.run([self.setup.bench, *words, '--json', path], expect, limit_s, **variables)
        if path.exists():
            command.json = json.loads(path.read_text(encoding='utf-8'))
        return command

    def program(self, *places):
        """The first of these that is built, under the build folder; skips the step where none is."""
        found = next((self.setup.build / place for place in places if (self.setup.build / place).exists()), None)
        if not found:
            raise Skip(f'not built: {" or ".join(places)}')
        return found

    def has_option(self, command, option):
        return self.setup.has_option(command, option)

    def needs_gpus(self, n):
        if self.setup.gpus < n:
            raise Skip(f'needs {n} GPUs, there is {self.setup.gpus}')


def write_whole(path, value):
    """The file has the old text or the new one, whatever happens meanwhile."""
    temporary = path.with_name(path.name + '.tmp')
    with open(temporary, 'w', encoding='utf-8') as f:
        json.dump(value, f, indent=1, ensure_ascii=False, allow_nan=False)
        f.write('\n')
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def empty_record(step, dry_run):
    return {'name': step.name, 'why': step.why, 'status': 'skipped', 'reason': 'not reached', 'seconds': 0.0, 'origin': 'emulated' if dry_run else 'measured',
            'summary': '', 'commands': [], 'checks': [], 'notes': [], 'result': None}


def wrong_checks(record):
    return '; '.join(f'{c["what"]}{": " + c["detail"] if c["detail"] else ""}' for c in record['checks'] if not c['passed'])


def do_step(setup, step, progress):
    """Its record, whatever happens in it."""
    record = step.record = empty_record(step, setup.dry_run)
    context = Context(setup, record, progress, step.limit_s)
    began = time.monotonic()
    status, reason = 'passed', None
    try:
        result = step.run(context)
        json.dumps(result, allow_nan=False)  # fails here, not when the file is written
        record['result'] = result
        if wrong_checks(record):
            status, reason = 'failed', wrong_checks(record)
    except Skip as e:  # what was found before cannot be skipped away
        status, reason = ('failed', f'{wrong_checks(record)}; then: {e}') if wrong_checks(record) else ('skipped', str(e))
    except Failed as e:
        status, reason = 'failed', str(e)
    except Interrupted as e:
        status, reason = 'interrupted', f'signal {e}'
        raise
    except Exception as e:  # what a program printed was not what we read: the step failed, the others go on
        status, reason = 'failed', f'{type(e).__name__}: {e}'
    finally:
        record.update(status=status, reason=reason, seconds=round(time.monotonic() - began, 1))
        if reason:
            record['summary'] = reason


def verdict_of(records):
    by = {status: [r['name'] for r in records if r['status'] == status] for status in ('passed', 'failed', 'interrupted')}
    skipped = {r['name']: r['reason'] for r in records if r['status'] == 'skipped'}
    notes = [f'{r["name"]}: {note}' for r in records for note in r['notes']]
    failed = {r['name']: r['reason'] for r in records if r['status'] == 'failed'}
    words = [f'{len(by["passed"])} passed', f'{len(failed)} failed', f'{len(skipped)} skipped'] + ([f'interrupted in {by["interrupted"][0]}'] if by['interrupted'] else [])
    return {'ok': not failed and not by['interrupted'], 'summary': ', '.join(words), 'passed': by['passed'], 'failed': failed,
            'interrupted': by['interrupted'], 'skipped': skipped, 'notes': notes}


class Report:
    """The JSON file: everything that is known so far."""

    def __init__(self, path, head, steps, kept):
        self.path, self.head, self.began = path, head, time.monotonic()
        dry = head['dry_run']
        self.records = {step.name: kept.get(step.name) or empty_record(step, dry) for step in steps}
        self.earlier_s = sum(r['seconds'] for r in kept.values())

    def put(self, record):
        self.records[record['name']] = record
        self.write()

    def skip(self, name, reason):
        self.records[name].update(status='skipped', reason=reason, summary=reason)

    def write(self):
        records = list(self.records.values())
        write_whole(self.path, {**self.head, 'seconds': round(self.earlier_s + time.monotonic() - self.began, 1), 'steps': records, 'verdict': verdict_of(records)})

    @property
    def verdict(self):
        return verdict_of(self.records.values())


def kept_steps(path, head, again):
    """Passed steps of an earlier run with the same settings, but for those to do again. Failed with the reason where there is none."""
    try:
        before = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
        same = {key: before[key] for key in ('gpu_check', 'version', 'dry_run', 'quick', 'gpus')}
        steps = {step['name']: step for step in before['steps'] if step['status'] == 'passed' and step['name'] not in again}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise Failed(f'{path}: no run to go on from: {e}') from e
    for key, value in same.items():
        if value != head[key]:
            raise Failed(f'{path} has {key} {json.dumps(value)}, this run {json.dumps(head[key])}: leave --resume out to begin anew')
    return steps
