#!/usr/bin/env python3
"""Run flat test guests on an engine and judge them by what they print.

	run-guest.py [--engine NAME] [--cpus N] [--lenient] RINGER GUEST...
	run-guest.py --qemu GUEST...                 (a second opinion, not an oracle)

A guest passes if its last line is `N passed, 0 failed` and it ended the machine by writing 0 to the
debug-exit port (process status 1). A guest that skips checks because the CPU lacks a feature fails
unless --lenient.
"""
import argparse
import re
import subprocess
import sys

QEMU = ['qemu-system-x86_64', '-display', 'none', '-no-reboot', '-m', '64M', '-nodefaults', '-debugcon', 'stdio',
        '-device', 'isa-debug-exit,iobase=0xf4,iosize=4']
RINGER = ['--debug-exit', '--debugcon', 'stdio', '--serial', 'null', '-m', '64M']


def command(opts, guest):
	if opts.qemu:
		cpu = 'max,vendor=AuthenticAMD,family=25,model=1' if opts.engine in (None, 'tcg') else 'host'
		return QEMU + ['-accel', opts.engine or 'tcg', '-smp', str(opts.cpus), '-cpu', opts.cpu or cpu, '-kernel', guest]
	engine = ['--engine', opts.engine] if opts.engine else []
	cpu = ['--cpu', opts.cpu] if opts.cpu else []
	return [opts.ringer, 'run', '--kernel', guest, '--cpus', str(opts.cpus)] + RINGER + engine + cpu


def judge(opts, guest):
	"""None, or what is wrong with the run."""
	try:
		done = subprocess.run(command(opts, guest), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
				      stderr=subprocess.PIPE, timeout=opts.timeout)
		out, err, status = done.stdout, done.stderr, done.returncode
	except subprocess.TimeoutExpired as e:
		out, err, status = e.stdout or b'', e.stderr or b'', 'none (timed out)'
	text = out.decode(errors='replace')
	lines = text.splitlines()
	last = lines[-1] if lines else ''
	sys.stdout.write(text)
	if status != 1 or not re.fullmatch(r'[1-9]\d* passed, 0 failed', last):
		sys.stderr.write(err.decode(errors='replace')[-6000:])
		return f'status {status}, last line {last!r}'
	skipped = [line for line in lines if line.startswith('skipped: ')]
	if skipped and not opts.lenient:
		return f'{len(skipped)} checks skipped, the first: {skipped[0]}'
	return None


def main():
	p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	p.add_argument('--engine', help='engine of Ringer, or accelerator of QEMU')
	p.add_argument('--cpu', help='CPU model')
	p.add_argument('--cpus', type=int, default=1, help='processors of the machine')
	p.add_argument('--qemu', action='store_true', help='run on qemu-system-x86_64')
	p.add_argument('--lenient', action='store_true', help='allow skipped checks')
	p.add_argument('--timeout', type=float, default=100)
	p.add_argument('paths', nargs='+')
	opts = p.parse_args()
	opts.ringer = None if opts.qemu else opts.paths.pop(0)
	bad = 0
	for guest in opts.paths:
		wrong = judge(opts, guest)
		if wrong:
			print(f'{guest}: {wrong}', file=sys.stderr)
			bad += 1
	return 1 if bad else 0


if __name__ == '__main__':
	sys.exit(main())
