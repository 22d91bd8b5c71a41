package ConnectFS::Guard;

# Keeps a test from leaving anything behind. The process that prove started becomes the guardian;
# the test itself runs in a child. All that the test starts stays below the guardian, daemons too
# (PR_SET_CHILD_SUBREAPER), so that the guardian can tell at the end whether a process or a mount is
# left, make an end of it by process id, and make an end of a test that hangs: one that hangs in the
# kernel on a mount can't do that itself.
#
# Must be loaded before Test::More (which remembers its process id).

use strict;
use warnings;
use Cwd ();
use File::Path ();
use File::Temp ();
use POSIX ();
use Time::HiRes qw(sleep time);

our $BASE;     # a directory of this test's own; removed at the end
our $TIMEOUT = $ENV{CONNECTFS_TEST_TIMEOUT} || 170;

my $scale = $ENV{CONNECTFS_TEST_SCALE} || 1;
our $PATIENCE = $scale >= 1 ? 1 : $scale <= 0.1 ? 10 : 1 / $scale;

my %PRCTL = (x86_64 => 157, aarch64 => 167, riscv64 => 167);
my $machine = (POSIX::uname())[4];

sub _prctl { my @a = @_; return $PRCTL{$machine} ? syscall($PRCTL{$machine}, @a, (0) x (5 - @a)) : -1 }

# pid => [ppid, command, state] of every process
sub processes {
	my %p;
	opendir(my $d, '/proc') or return {};
	for my $pid (grep { /^\d+$/ } readdir $d) {
		open(my $f, '<', "/proc/$pid/stat") or next;
		my $line = <$f> // next;
		$p{$pid} = [$3, $1, $2] if $line =~ /^\d+ \((.*)\) (\S) (\d+) /s;
	}
	return \%p;
}

sub descendants {
	my ($root) = @_;
	my $p = processes();
	my (@found, %seen);
	my @todo = ($root);
	while (defined(my $up = shift @todo)) {
		for my $pid (grep { $p->{$_}[0] == $up && !$seen{$_}++ } keys %$p) {
			push @found, $pid;
			push @todo, $pid;
		}
	}
	return map { [$_, @{$p->{$_}}] } sort { $a <=> $b } @found;
}

sub unescape { my ($s) = @_; $s =~ s/\\([0-7]{3})/chr oct $1/ge; return $s }

# Mounts at or below a path, from mountinfo (nothing is touched), topmost last
sub mounts_below {
	my ($path) = @_;
	my @m;
	open(my $f, '<', '/proc/self/mountinfo') or return;
	while (my $line = <$f>) {
		my ($left, $right) = split / - /, $line, 2;
		my @l = split / /, $left;
		my @r = split / /, $right;
		my $at = unescape($l[4]);
		next unless $at eq $path || index($at, "$path/") == 0;
		push @m, { at => $at, options => $l[5], dev => $l[2], type => $r[0], source => unescape($r[1]), super => $r[2] };
	}
	return @m;
}

sub detach {
	my ($at) = @_;
	my $pid = fork // return;
	if (!$pid) {
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		my @cmd = $> == 0 ? ('umount', '-l', $at) : ('fusermount3', '-u', '-z', $at);
		{ no warnings; exec @cmd; }
		POSIX::_exit(127);
	}
	my $end = time + 5;
	while (time < $end) {
		return if waitpid($pid, POSIX::WNOHANG()) == $pid;
		sleep 0.01;
	}
	kill KILL => $pid;
}

sub _reap { 1 while waitpid(-1, POSIX::WNOHANG()) > 0 }

# Ends all that is left; true if there was anything
sub _sweep {
	my ($grace) = @_;
	my $end = time + $grace;
	my @left;
	while (1) {
		_reap();
		@left = grep { $_->[3] ne 'Z' } descendants($$);
		last if !@left || time >= $end;
		sleep 0.02;
	}
	my @mounts = mounts_below($BASE);
	return 0 unless @left || @mounts;
	for (@left) {
		my $cmd = '';
		if (open(my $f, '<', "/proc/$_->[0]/cmdline")) { local $/; $cmd = <$f> // ''; $cmd =~ s/\0/ /g }
		print STDERR "# left behind: process $_->[0] ($_->[2], state $_->[3]) $cmd\n";
	}
	print STDERR "# left behind: mount $_->{at} ($_->{type})\n" for @mounts;
	for (1 .. 50) {
		kill KILL => map { $_->[0] } descendants($$);
		detach($_->{at}) for reverse mounts_below($BASE);
		_reap();
		last unless mounts_below($BASE) || grep { $_->[3] ne 'Z' } descendants($$);
		sleep 0.1;
	}
	return 1;
}

sub _dump {
	for (descendants($$)) {
		my $wchan = '';
		if (open(my $f, '<', "/proc/$_->[0]/wchan")) { $wchan = <$f> // '' }
		my $cmd = '';
		if (open(my $f, '<', "/proc/$_->[0]/cmdline")) { local $/; $cmd = <$f> // ''; $cmd =~ s/\0/ /g }
		print STDERR "#   $_->[0] parent $_->[1] state $_->[3] wchan $wchan: $cmd\n";
	}
}

sub _guard {
	my ($child) = @_;
	my $signal;
	$SIG{$_} = sub { $signal = $_[0] } for qw(INT TERM HUP);
	$SIG{QUIT} = 'IGNORE';
	my $end = time + $TIMEOUT * $PATIENCE;
	my $status;
	while (!defined $status) {
		my $pid = waitpid(-1, POSIX::WNOHANG());
		if ($pid == $child) { $status = $?; last }
		next if $pid > 0;
		if ($signal) {
			print STDERR "# $0: ended by SIG$signal\n";
			_sweep(0);
			$status = 1 << 8;
		} elsif (time > $end) {
			print STDERR "# $0: not done after " . $TIMEOUT * $PATIENCE . " s; what was running:\n";
			_dump();
			_sweep(0);
			$status = 124 << 8;
		}
		sleep 0.01;
	}
	my $left = _sweep(5 * $PATIENCE);
	# The locks of supervisors that a test killed
	my $mark = substr($BASE, rindex($BASE, '/') + 1);
	unlink grep { index($_, $mark) >= 0 } glob $> == 0 ? '/run/connectfs/*' : "/run/user/$>/connectfs/* /tmp/connectfs-$>/*";
	if ($ENV{CONNECTFS_TEST_KEEP} || ($status && $ENV{CONNECTFS_TEST_KEEP_FAILED})) {
		print STDERR "# kept: $BASE\n";
	} elsif (!mounts_below($BASE)) {
		local $SIG{__WARN__} = sub { };
		system('chmod', '-R', 'u+rwX', $BASE) if $> != 0;
		File::Path::remove_tree($BASE, { error => \my $err });
	}
	my $exit = $status & 127 ? 128 + ($status & 127) : $status >> 8;
	$exit ||= 99 if $left;
	POSIX::_exit($exit);
}

sub start {
	if ($^C) { $BASE = '/nonexistent'; return }
	$BASE = Cwd::realpath(File::Temp::tempdir('connectfs-test-XXXXXX', TMPDIR => 1, CLEANUP => 0));
	if (_prctl(36, 1) != 0) { # PR_SET_CHILD_SUBREAPER
		print STDERR "# PR_SET_CHILD_SUBREAPER failed: leftover daemons may go unnoticed\n";
	}
	$| = 1;
	my $parent = $$;
	my $pid = fork // die "fork: $!";
	_guard($pid) if $pid;
	_prctl(1, 9); # PR_SET_PDEATHSIG SIGKILL
	POSIX::_exit(1) if getppid != $parent;
}

start();

1;
